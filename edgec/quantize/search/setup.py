"""What every trial of a search starts from: the float model in the engine's form, its ranges, what could be integer."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx_ir as ir

from edgec.data import Dataset
from edgec.errors import UnsupportedError
from edgec.progress import Progress, silent
from edgec.quantize import layers, pipeline
from edgec.quantize.assign import assign
from edgec.quantize.calibrate import calibrate, calibrate_many
from edgec.quantize.corrections.equalize.choose import equalize_where_better
from edgec.quantize.corrections.smooth import smooth_where_better
from edgec.quantize.corrections.stages import Corrected, Stage
from edgec.quantize.placement import rules
from edgec.quantize.placement.plan import Plan, plan
from edgec.quantize.placement.rules import Rules
from edgec.quantize.placement.worth import Worth
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Assignment, Scheme
from edgec.quantize.search.lab import Lab, Trial
from edgec.quantize.search.trials import Feed, build, from_bytes, pack_feeds, to_bytes
from edgec.request import Method

FEEDS = 128  # samples that trials may use: all that the corrections take
MEMORY = 256 << 20  # bytes of them at most
LARGEST = 1 << 30  # bytes of a model: trials are sent models whole, and a protobuf holds 2 GiB


@dataclass(frozen=True)
class Setup:
    """The start of a search, the same for every assignment.

    Attributes:
        model: float, as the engine wants it; names are those of the model as given.
        content: its bytes.
        plan: with everything integer that may be.
        names: layer's name of each unit's node.
        schemes: everything integer.
        ranges: by method, the default first.
        feeds: the samples that trials use, packed.
        samples: the same.
        rules: the engine's.
        placement: its name.
        scheme: number formats.
        exclude: what the user keeps in float.
        digests: what decides every trial's result, for its key.
    """

    model: ir.Model
    content: bytes
    plan: Plan
    names: Mapping[ir.Node, str]
    schemes: Assignment
    ranges: Mapping[str, Ranges]
    feeds: bytes
    samples: list[Feed]
    rules: Rules
    placement: str
    scheme: Scheme
    exclude: tuple[str, ...]
    digests: Mapping[str, str]

    @property
    def layers(self) -> frozenset[str]:
        """Names of all units that may be integer."""
        return frozenset(self.names.values())

    def assignment(self, floats: Collection[str]) -> Assignment:
        """Everything integer but these."""
        return {name: None if name in floats else scheme for name, scheme in self.schemes.items()}

    def trial(self, lab: Lab, floats: Collection[str], *, corrections: bool = True) -> Trial:
        """The trial that builds an assignment."""
        schemes = {n: None if s is None else asdict(s) for n, s in self.assignment(floats).items()}
        ranges = {method: _plain(found) for method, found in self.ranges.items()}
        key = {**self.digests, "floats": sorted(floats), "placement": self.placement, "corrections": corrections}
        handles = self._handles(lab)
        return Trial("build", key, build, (*handles, ranges, schemes, self.placement, corrections, self.exclude))

    def _handles(self, lab: Lab) -> tuple[Any, Any]:
        return lab.shared(self.content), lab.shared(self.feeds)

    def quantized(self, floats: Collection[str], facts: Mapping[str, Any], content: bytes) -> pipeline.Quantized:
        """What a build trial made, as the pipeline gives it."""
        nan = float("nan")
        correction = Corrected(
            from_bytes(content),
            facts["variant"],
            tuple(Stage(**stage) for stage in facts["stages"]),
            nan if facts["before"] is None else facts["before"],
            nan if facts["after"] is None else facts["after"],
            facts["samples"],
        )
        worth = Worth(self.assignment(floats), tuple(n for n in self.names.values() if n in floats), True)
        return pipeline.Quantized(correction.model, worth.assignment, self.ranges[facts["variant"]], correction, worth)


def prepare(
    model: ir.Model,
    data: Dataset,
    *,
    method: Method = "minmax",
    exclude: Collection[str] = (),
    scheme: Scheme | None = None,
    placement: str = "onnxruntime",
    progress: Progress = silent,
) -> Setup:
    """Assign, calibrate and plan with everything integer. Arguments and errors as `quantize_with_data`."""
    from edgec_targets.emitters.onnxruntime import opset

    engine = rules(placement)
    scheme = scheme or engine.scheme
    model = engine.equivalent(opset.lower(model, opset.candidates(model)[0]))
    schemes = assign(model, scheme=scheme, exclude=exclude)
    if not pipeline.ranges_needed(model, schemes, placement=placement):
        raise pipeline.nothing_to_quantize(model)
    base = _balanced(model, data, schemes, method, placement, progress).clone()
    engine.prepare(base, schemes)
    needed = plan(base, schemes, engine).ranges_needed
    with progress("calibrating", data.count) as advance:
        first = calibrate(base, data, method=method, values=needed, progress=lambda done, total: advance(1))
    with progress("calibrating ranges", data.count) as advance:
        methods = [m for m in pipeline.ALTERNATIVES if m != method]
        others = calibrate_many(base, data, methods, values=needed, progress=lambda done, total: advance(1))
    planned = plan(base, schemes, engine, first.__contains__)
    if not planned.units:
        raise pipeline.nothing_to_quantize(base)
    names = layers.layer_names(base)
    content = to_bytes(base)
    if len(content) > LARGEST:
        raise UnsupportedError(
            f"the model is too large to search: {len(content) >> 20} MiB",
            f"Trials send it whole; the limit is {LARGEST >> 20} MiB.",
            "Use --effort default.",
            code="E414",
        )
    samples = _take(data)
    feeds = pack_feeds(samples)
    ranges = {method: first, **{str(name): found for name, found in others.items()}}
    digests = {
        "model": hashlib.sha256(content).hexdigest(),
        "data": data.digest,
        "feeds": str(len(samples)),
        "scheme": repr(scheme),
        "ranges": hashlib.sha256(repr([_plain(r) for r in ranges.values()]).encode()).hexdigest(),
        "exclude": repr(sorted(exclude)),
    }
    return Setup(
        base, content, planned, {u.node: names[u.node] for u in planned.units}, schemes, ranges, feeds, samples,
        engine, placement, scheme, tuple(exclude), digests,
    )  # fmt: skip


def _balanced(
    model: ir.Model, data: Dataset, schemes: Assignment, method: Method, placement: str, progress: Progress
) -> ir.Model:
    """The float model with outliers moved into weights and channels equalized, each where integers gain from it."""

    def again(candidate: ir.Model) -> ir.Model:
        wanted = pipeline.ranges_needed(candidate, schemes, placement=placement)
        ranges = calibrate(candidate, data, method=method, values=wanted)
        return pipeline.quantize(candidate, ranges, schemes, placement=placement)

    quantized = again(model)
    smoothing = smooth_where_better(model, quantized, data, schemes, again, progress=progress)
    if smoothing.kept:
        model = smoothing.smoothed.model
        quantized = again(model)
    equalizing = equalize_where_better(model, quantized, data, again, progress=progress)
    if equalizing.kept and equalizing.equalized is not None:
        model = equalizing.equalized.model
    return model


def _take(data: Dataset) -> list[Feed]:
    """The first samples, as many as trials use and memory allows; at least one."""
    taken: list[Feed] = []
    size = 0
    for feed in data:
        size += sum(array.nbytes for array in feed.values())
        if taken and (len(taken) == FEEDS or size > MEMORY):
            break
        taken.append(feed)
    return taken


def _plain(ranges: Ranges) -> dict[str, Any]:
    return {
        "by_name": {name: [float(low), float(high)] for name, (low, high) in ranges.items()},
        "method": ranges.method,
        "samples": ranges.samples,
        "data": ranges.data,
        "skipped": dict(ranges.skipped),
    }
