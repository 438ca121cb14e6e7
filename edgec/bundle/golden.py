"""Golden vectors: a few inputs, the float model's answers, and what each payload answered, within a size.

A device runs a payload on the golden inputs before it trusts it. They must not weigh much: at most 5 % of the
largest payload, or 256 kB, inputs and all answers together, unless asked otherwise. What is tried, in this order:

1. the real inputs as they are, as many as fit (images are stored as a palette of at most 256 values, without loss);
2. the real inputs coarsened: each large float tensor rounded to 256 levels between its least and greatest value,
   which a palette holds in a byte an element. The rounded tensor then *is* the golden input: all answers are on it;
3. seeded synthetic inputs of the same shapes, dtypes and ranges.

Answers that are too large are stored as each k-th element. What was done stands in the notes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from edgec.bundle import arrays
from edgec.bundle import synthetic as synthetic_inputs
from edgec.bundle.arrays import Array, Feed, inputs
from edgec.bundle.synthetic import synthetic
from edgec.errors import UsageError

__all__ = ["INPUTS", "REFERENCE", "Golden", "inputs", "limit", "make", "synthetic"]

Kind = Literal["data", "synthetic", "none"]
Reference = Callable[[Feed], Mapping[str, Any]]

INPUTS, REFERENCE = "golden/inputs.bin", "golden/reference.bin"
SMALL = 4096  # bytes: a tensor this small is kept as it is when others are coarsened
PART, FLOOR = 0.05, 256_000  # the share of the largest payload, and bytes that are always allowed
HEADER = 160  # bytes of JSON a tensor may take in a golden file


@dataclass(frozen=True)
class Golden:
    """Golden vectors as they go into a bundle.

    `feeds` are the inputs exactly as a device will decode them: payloads must be run on these. `every` says which
    outputs are stored as each k-th element. `omitted` are outputs that are no arrays of numbers.
    """

    kind: Kind
    feeds: tuple[Feed, ...] = ()
    inputs: bytes | None = None
    reference: bytes | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    every: Mapping[str, int] = field(default_factory=dict)
    omitted: tuple[str, ...] = ()

    def answers(self, outputs: Sequence[Mapping[str, Any]]) -> bytes:
        """The golden file of what a payload gave for each of `feeds`."""
        return arrays.encode([_kept(sample, self.omitted) for sample in outputs], self.every)

    def section(self) -> dict[str, Any]:
        """The manifest's "golden"."""
        return {
            "kind": self.kind,
            "samples": len(self.feeds),
            "inputs": INPUTS if self.inputs is not None else None,
            "reference": REFERENCE if self.reference is not None else None,
            "seed": self.seed,
            "notes": list(self.notes),
        }

    def files(self) -> dict[str, bytes]:
        """The members: inputs and reference (none of them where there are no golden vectors)."""
        both = {INPUTS: self.inputs, REFERENCE: self.reference}
        return {name: data for name, data in both.items() if data is not None}


def limit(payload_sizes: Iterable[int]) -> int:
    """The bytes that golden vectors may take together, next to payloads of these sizes."""
    return max(int(PART * max(payload_sizes, default=0)), FLOOR)


def make(
    feeds: Sequence[Feed],
    reference: Reference | Sequence[Mapping[str, Any]],
    *,
    kind: Kind,
    limit_bytes: int | None,
    payloads: int = 1,
    seed: int = 0,
) -> Golden:
    """Choose and encode golden vectors.

    Args:
        feeds: candidates, best first: real inputs, or those of `synthetic`. As many are taken as fit.
        reference: the float model, {output name: array} for a feed; or its outputs for each of `feeds`, in which case
            the feeds can't be changed.
        kind: what `feeds` are; "none" gives no golden vectors.
        limit_bytes: what inputs, reference and the answers of all payloads may take; None for no limit.
        payloads: how many payloads will add their answers.
        seed: of synthetic inputs, recorded.

    Raises:
        UsageError: the feeds don't fit, and `reference` is no function that could be asked again.
    """
    if kind == "none" or not feeds or not feeds[0]:  # a model may have no inputs at all
        return Golden("none", notes=() if kind == "none" else ("no inputs to take golden vectors from",))
    if odd := sorted(name for name, value in feeds[0].items() if not _storable(value)):
        return Golden("none", notes=(f"the input '{odd[0]}' is no array of numbers: no golden vectors",))
    budget = _Budget(limit_bytes, payloads)
    label: Kind = kind
    ask = reference if callable(reference) else _replay(feeds, reference)
    if found := _fit(feeds, ask, budget, label, seed if kind == "synthetic" else None, ()):
        return found
    if not callable(reference):
        raise UsageError(
            f"the golden inputs don't fit in {limit_bytes:,} bytes",
            "They would have to be changed, and the float model's answers taken again.",
            "Allow more, or give the float model as a function.",
        )
    if coarse := coarsened(feeds):
        note = "real inputs rounded to 256 levels between their least and greatest value"
        if found := _fit(coarse, ask, budget, label, None, (note,)):
            return found
    note = "synthetic, of the same shapes and ranges: the real inputs are too large"
    if found := _fit(list(_like(feeds, seed)), ask, budget, "synthetic", seed, (note,)):
        return found
    return Golden("none", notes=(f"no golden vectors fit in {limit_bytes} bytes",))


def coarsened(feeds: Sequence[Feed]) -> list[Feed]:
    """The feeds with each large float tensor rounded to 256 even levels; empty where a value is not finite."""
    changed: list[Feed] = []
    for feed in feeds:
        made: dict[str, Array] = {}
        for name, value in feed.items():
            if value.dtype.kind != "f" or value.nbytes <= SMALL or arrays.palette(value.reshape(-1)) is not None:
                made[name] = value
                continue
            if not np.isfinite(value).all():
                return []
            low, high = float(value.min()), float(value.max())
            levels = np.linspace(low, high, arrays.LEVELS)
            index = np.rint((value.astype(np.float64) - low) * ((arrays.LEVELS - 1) / (high - low))).astype(np.intp)
            made[name] = levels[index].astype(value.dtype)
        changed.append(made)
    return changed


@dataclass(frozen=True)
class _Budget:
    limit: int | None
    payloads: int

    def strides(self, inputs: int, outputs: Sequence[Mapping[str, Array]], least: int) -> dict[str, int] | None:
        """{output: k} such that everything fits, with at least `least` elements an output kept; None where it can't.

        Payloads' answers are counted as if zlib gained nothing on them.
        """
        sizes = {name: max(s[name].size for s in outputs) for name in outputs[0]}
        most = max(sizes.values(), default=0)
        while True:
            every = {name: max(1, -(-size // most)) for name, size in sizes.items()} if most else {}
            if self.limit is None:
                return {}
            raw = sum(HEADER + -(-v.size // every.get(n, 1)) * v.itemsize for s in outputs for n, v in s.items())
            if inputs + raw * (1 + self.payloads) <= self.limit:
                return {name: k for name, k in every.items() if k > 1}
            if most <= least:
                return None
            most = max(most // 2, least)


def _fit(
    feeds: Sequence[Feed], ask: Reference, budget: _Budget, kind: Kind, seed: int | None, notes: tuple[str, ...]
) -> Golden | None:
    """The most of the feeds that fit; None where not even the first does."""
    cache: list[Mapping[str, Any]] = []
    for count, least in [*((n, 1024) for n in range(len(feeds), 0, -1)), (1, 64)]:
        taken = tuple(feeds[:count])
        data = arrays.encode(taken)
        if budget.limit is not None and len(data) > budget.limit:
            continue
        cache.extend(ask(feed) for feed in taken[len(cache) :])
        omitted = tuple(sorted(name for name, value in cache[0].items() if not _storable(value)))
        outputs = [_kept(sample, omitted) for sample in cache[:count]]
        if not outputs[0]:
            return Golden("none", notes=("no output is an array of numbers: no golden vectors",))
        every = budget.strides(len(data), outputs, least)
        if every is None:
            continue
        told = [*notes, *(f"the output '{name}' is no array of numbers and is left out" for name in omitted)]
        told += [f"of the output '{name}' each {k}th element is kept" for name, k in sorted(every.items())]
        return Golden(kind, taken, data, arrays.encode(outputs, every), seed, tuple(told), every, omitted)
    return None


def _like(feeds: Sequence[Feed], seed: int) -> Iterator[Feed]:
    """Synthetic inputs of the real ones' shapes, dtypes and ranges (small tensors, which may be settings, are kept)."""
    for number, feed in enumerate(feeds):
        made: dict[str, Array] = {}
        for name, value in feed.items():
            if value.nbytes <= SMALL:
                made[name] = value
                continue
            finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value
            limits = (finite.min().item(), finite.max().item()) if finite.size else None
            made[name] = synthetic_inputs.like(value.dtype, value.shape, f"{seed}/{number}/{name}", limits)
        yield made


def _replay(feeds: Sequence[Feed], outputs: Sequence[Mapping[str, Any]]) -> Reference:
    answers = {id(feed): given for feed, given in zip(feeds, outputs, strict=True)}
    return lambda feed: answers[id(feed)]


def _storable(value: Any) -> bool:
    return isinstance(value, np.ndarray) and arrays.dtype_name(value) is not None


def _kept(sample: Mapping[str, Any], omitted: Sequence[str]) -> dict[str, Array]:
    return {name: np.asarray(value) for name, value in sample.items() if name not in omitted}
