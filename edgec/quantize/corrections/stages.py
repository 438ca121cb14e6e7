"""The corrections in order; each is kept only where samples that it has not seen gain from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import reported_db
from edgec.progress import Progress, silent
from edgec.quantize.bias_correction import correct_biases
from edgec.quantize.corrections.judge import Judge, Verdict, split
from edgec.quantize.corrections.reconstruct import reconstruct

# At most so many samples to correct with, and to check with.
SAMPLES, HELD_OUT = 72, 32
# How strongly weights are drawn to the float ones, best first (measured on the zoo: docs/quantization.md).
RIDGES = (10.0, 100.0)


@dataclass(frozen=True)
class Stage:
    """One correction that was tried.

    Attributes:
        name: "ranges: mse", "least squares", "bias correction" …
        kept: whether held-out samples gained.
        before: SQNR of the outputs (before a final softmax) on those samples without it, dB.
        after: the same with it.
    """

    name: str
    kept: bool
    before: float
    after: float

    def as_dict(self) -> dict[str, Any]:
        """For the report and `--json`."""
        numbers = {"sqnr_db_before": reported_db(self.before), "sqnr_db_after": reported_db(self.after)}
        return {"name": self.name, "kept": self.kept, **numbers}


@dataclass(frozen=True)
class Corrected:
    """What the corrections made of a quantized model.

    Attributes:
        model: corrected as far as that helped.
        variant: name of the quantized model that it was made from.
        stages: what was tried, in order.
        before: SQNR on held-out samples of the model as given, dB; NaN where nothing could be held out.
        after: that of `model`.
        samples: how many samples the corrections could use.
    """

    model: ir.Model
    variant: str
    stages: tuple[Stage, ...]
    before: float
    after: float
    samples: int

    @property
    def kept(self) -> bool:
        """Whether anything was."""
        return any(stage.kept for stage in self.stages)


def correct(
    model: ir.Model,
    variants: Mapping[str, ir.Model],
    data: Dataset,
    *,
    progress: Progress = silent,
) -> Corrected:
    """Choose the ranges, then reconstruct layer by layer, or correct the biases alone where that doesn't help.

    Every fourth sample is held out and decides. With fewer than four samples nothing is done.

    Args:
        model: the float model; not changed.
        variants: quantized models by the name of their ranges, the default first; not changed.
        data: calibration feeds.
        progress: `with progress(stage, total) as advance` for each long stage.
    """
    used, kept_back = split(data, SAMPLES, HELD_OUT)
    chosen, best = next(iter(variants.items()))
    if not kept_back:
        return Corrected(best, chosen, (), float("nan"), float("nan"), 0)
    judge = Judge(model, kept_back)
    first = verdict = judge(best)
    stages: list[Stage] = []

    def consider(name: str, candidate: ir.Model) -> bool:
        nonlocal best, verdict
        after: Verdict = judge(candidate)
        kept = after.beats(verdict)
        stages.append(Stage(name, kept, verdict.sqnr, after.sqnr))
        if kept:
            best, verdict = candidate, after
        return kept

    for name, candidate in list(variants.items())[1:]:
        if consider(f"ranges: {name}", candidate):
            chosen = name
    start = best
    for ridge in RIDGES:
        with progress("fitting layers", None) as advance:
            made = reconstruct(model, start, used, ridge=ridge, progress=lambda done, total: advance(1))
        if made is None or consider(f"least squares (ridge {ridge:g})", made):
            break
    if best is start:
        with progress("correcting biases", None) as advance:
            corrected = correct_biases(model, start, data, progress=lambda done, total: advance(1))
        if corrected.shifts:
            stages.append(Stage("bias correction", corrected.kept, corrected.before, corrected.after))
            if corrected.kept:
                best, verdict = corrected.model, judge(corrected.model)
    return Corrected(best, chosen, tuple(stages), first.sqnr, verdict.sqnr, len(used))
