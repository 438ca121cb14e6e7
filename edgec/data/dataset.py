"""A Dataset: feeds `{input name: array}` that can be iterated again, checked as they pass, one in memory at a time."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from edgec.errors import BadInputError, Error

# A larger magnitude is no measurement: squares and ranges of it overflow float32 (3.4e38).
HUGE = 1e30

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class InputSpec:
    """What the model wants for one input: dtype, and shape with int or symbolic (str or None) dimensions.

    `shape` is None when the rank is unknown.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...] | None

    @classmethod
    def of(cls, value: Any) -> InputSpec:
        """From an `InputSpec` (as is) or an `onnx_ir.Value` (a graph input)."""
        if isinstance(value, cls):
            return value
        if value.dtype is None:
            raise BadInputError(f"input '{value.name}' of the model has no type", "the model file doesn't say it")
        shape = value.shape
        dims = None if shape is None else tuple(d if isinstance(d, int) else d.value for d in shape)
        return cls(str(value.name), np.dtype(value.dtype.numpy()), dims)

    def wanted(self) -> str:
        """The shape and type in words, for messages."""
        if self.shape is None:
            return f"{self.dtype} of any shape"
        return f"{self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


KEPT = 32 << 20  # bytes of samples that are kept after the second pass: a compile makes a dozen, and loaders are slow


class Dataset(Iterable[Feed]):
    """Feeds from a source that can be opened again and again; every feed is checked as it passes.

    A feed has exactly the model's inputs, in the model's dtypes and shapes, finite. float64 is taken for float32
    (numpy's default) and integers for other integers that hold the same values; nothing else is converted, because
    bytes where floats belong mean that the preprocessing is missing.

    Args:
        open_feeds: gives a new iterator over the raw feeds.
        inputs: the model's inputs.
        describe: where the data comes from, for messages and reports.
        count: how many feeds there are, where known beforehand; otherwise known after the first full pass.
    """

    def __init__(
        self,
        open_feeds: Callable[[], Iterable[Mapping[str, Any]]],
        inputs: Iterable[Any],
        *,
        describe: str,
        count: int | None = None,
    ) -> None:
        self._open = open_feeds
        self.inputs: tuple[InputSpec, ...] = tuple(InputSpec.of(i) for i in inputs)
        self.describe = describe
        self._count = count
        self._digest: str | None = None
        self._seen: list[int] = []  # CRC-32 of each sample, at its first pass
        self._kept: list[Feed] | None = None  # small data, once a second pass has shown that it stays the same

    @classmethod
    def of(
        cls, feeds: Sequence[Mapping[str, np.ndarray]], inputs: Iterable[Any], *, describe: str = "memory"
    ) -> Dataset:
        """A dataset of feeds already in memory."""
        return cls(lambda: feeds, inputs, describe=describe, count=len(feeds))

    @property
    def count(self) -> int | None:
        """The number of feeds; None while unknown."""
        return self._count

    def __len__(self) -> int:
        if self._count is None:
            raise TypeError(f"the length of {self.describe} is known after the first pass")
        return self._count

    def __iter__(self) -> Iterator[Feed]:
        """Yield checked feeds; the first complete pass also takes the digest.

        Raises:
            BadInputError: a feed is not what the model wants, it is another than at the first pass, or there is none.
        """
        if self._kept is not None:
            yield from self._kept
            return
        hasher = hashlib.sha256() if self._digest is None else None
        kept: list[Feed] = []
        room, n = KEPT if hasher is None else 0, 0
        for feed in self._raw():
            checked = self._check(feed, n)
            if hasher is not None:
                _hash(hasher, checked)
            self._same(n, checked)
            n += 1
            room -= sum(array.nbytes for array in checked.values())
            if room >= 0:
                kept.append({name: array.copy() for name, array in checked.items()})  # the source may reuse its arrays
            else:
                kept.clear()
            yield checked
        if n == 0:
            raise BadInputError(f"{self.describe} holds no sample", "it is empty", "give at least one", code="E921")
        self._count = n
        if hasher is not None:
            self._digest = hasher.hexdigest()
        if kept:
            self._kept = kept

    def select(self, start: int | None, stop: int | None = None, step: int | None = None) -> Dataset:
        """The feeds of a slice, as a dataset of its own (still lazy, still re-iterable)."""
        count = None if self._count is None else len(range(*slice(start, stop, step).indices(self._count)))
        name = f"{self.describe}[{':'.join('' if v is None else str(v) for v in (start, stop, step))}]"
        return Dataset(
            lambda: islice(self._kept if self._kept is not None else self._raw(), start, stop, step),
            self.inputs,
            describe=name,
            count=count,
        )

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over names, dtypes, shapes and bytes of all feeds. Costs a pass when none was made yet."""
        if self._digest is None:
            for _ in self:
                pass
        assert self._digest is not None
        return self._digest

    def _raw(self) -> Iterator[Mapping[str, Any]]:
        """The source's feeds; what the user's own code raises becomes our error, with its words."""
        try:
            yield from self._open()
        except Error:
            raise
        except Exception as problem:
            raise BadInputError(
                f"{self.describe} failed while giving samples",
                f"{type(problem).__name__}: {problem}",
                "correct the function or file that gives the data",
                code="E920",
            ) from problem

    def _same(self, index: int, feed: Feed) -> None:
        """Two models are compared on the same samples: a source that changes would look like bad accuracy."""
        crc = 0
        for name in sorted(feed):
            crc = zlib.crc32(_bytes(feed[name]), crc)
        if index == len(self._seen):
            self._seen.append(crc)
        elif index < len(self._seen) and self._seen[index] != crc:
            raise BadInputError(
                f"{self.describe} gives other samples each time",
                f"sample {index} is not what it was at the first pass, so nothing can be compared on it",
                "seed its random numbers inside the function, and keep its order",
                code="E933",
            )

    def _check(self, feed: object, index: int) -> Feed:
        where = f"sample {index} of {self.describe}"
        if not isinstance(feed, Mapping):
            raise BadInputError(
                f"{where} is {type(feed).__name__}, not a dictionary", "", "yield {input name: array}", code="E922"
            )
        wanted = {spec.name for spec in self.inputs}
        if extra := sorted(set(map(str, feed)) - wanted):
            raise BadInputError(
                f"{where}: the model has no input '{extra[0]}'",
                f"its inputs are {', '.join(sorted(wanted))}",
                "name the arrays after the inputs",
                code="E923",
            )
        checked = {spec.name: check_array(spec, feed.get(spec.name), where) for spec in self.inputs}
        if checked and not any(array.size for array in checked.values()):
            shapes = ", ".join(f"'{name}' is {list(array.shape)}" for name, array in checked.items())
            raise BadInputError(f"{where} is empty", shapes, "give real samples", code="E921")
        return checked


def check_array(spec: InputSpec, array: Any, where: str) -> np.ndarray:
    """The array in the input's dtype, C-contiguous.

    Raises:
        BadInputError: missing, wrong dtype or shape, not finite, or absurdly large.
    """
    if array is None:
        raise BadInputError(f"{where}: input '{spec.name}' is missing", f"the model wants {spec.wanted()}", code="E923")
    value = np.asarray(array)
    got = f"it is {value.dtype}{list(value.shape)}, the model wants {spec.wanted()}"
    if value.dtype != spec.dtype:
        converted = _convert(value, spec.dtype)
        if converted is None:
            fix = "preprocess the data as the model expects it (docs/quantization.md)"
            raise BadInputError(f"{where}: input '{spec.name}' has the wrong type", got, fix, code="E924")
        value = converted
    if spec.shape is not None and (
        value.ndim != len(spec.shape)
        or any(isinstance(want, int) and want != have for want, have in zip(spec.shape, value.shape, strict=True))
    ):
        fix = "each sample needs the model's full shape, batch axis included"
        raise BadInputError(f"{where}: input '{spec.name}' has the wrong shape", got, fix, code="E925")
    if value.dtype.kind == "f" and value.size:  # a cache of what came before may be empty at first
        # One reduction each; NaN propagates through both. The sum of squares would overflow on legal values.
        low, high = float(value.min()), float(value.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise BadInputError(
                f"{where}: input '{spec.name}' holds NaN or infinity",
                "ranges taken from it would mean nothing",
                "remove or repair the sample",
                code="E926",
            )
        if max(-low, high) > HUGE:
            raise BadInputError(
                f"{where}: input '{spec.name}' holds {max(-low, high):.3g}",
                f"no measurement is over {HUGE:g}; ranges would overflow",
                "remove or repair the sample",
                code="E926",
            )
    # np.ascontiguousarray would make a scalar rank 1.
    return value if value.flags.c_contiguous else np.array(value, order="C")


def _convert(value: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray | None:
    """The same values in another dtype, or None where that would hide a mistake."""
    if value.dtype == np.float64 and dtype == np.float32:
        with np.errstate(over="ignore"):  # an overflow becomes infinity and is refused as such
            return value.astype(dtype)
    if value.dtype.kind in "iu" and dtype.kind in "iu":
        converted = value.astype(dtype)
        return converted if np.array_equal(converted, value) else None
    return None


def _hash(hasher: Any, feed: Feed) -> None:
    for name in sorted(feed):
        array = feed[name]
        head = f"{name}\0{array.dtype.str}\0{','.join(map(str, array.shape))}".encode()
        hasher.update(struct.pack("<QQ", len(head), array.nbytes))
        hasher.update(head)
        hasher.update(_bytes(array))


def _bytes(array: np.ndarray) -> memoryview | bytes:
    """The array's content, without a copy where the buffer protocol knows its type."""
    return array.data if array.dtype.kind in "biuf" else array.tobytes()
