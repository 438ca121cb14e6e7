"""Whether equalization stays, and by what: held-out samples decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from edgec.data import Dataset
from edgec.progress import Progress, silent
from edgec.quantize.corrections.equalize import By, Equalized, equalize
from edgec.quantize.corrections.equalize.extremes import SAMPLES, channel_extremes
from edgec.quantize.corrections.equalize.ties import groups
from edgec.quantize.corrections.judge import Judge, split

CANDIDATES: tuple[By, ...] = ("weights", "activations")


@dataclass(frozen=True)
class Outcome:
    """The best of the candidates.

    Attributes:
        kept: whether held-out samples gained.
        equalized: the one kept, else the best that was tried; None where nothing could be scaled.
        quantized: what was made of it; the model as it came where nothing was kept.
        before: SQNR on held-out samples without it, dB; NaN where nothing was tried.
        after: with it.
    """

    kept: bool
    equalized: Equalized | None
    quantized: ir.Model
    before: float
    after: float


def equalize_where_better(
    model: ir.Model,
    quantized: ir.Model,
    data: Dataset,
    requantize: Callable[[ir.Model], ir.Model],
    *,
    held_out: int = 32,
    progress: Progress = silent,
) -> Outcome:
    """Equalize in each way, quantize again, and keep what held-out samples gain from most (every fourth is held out).

    Args:
        model: the float model; not changed.
        quantized: made of it.
        data: calibration feeds; with fewer than four nothing is tried.
        requantize: makes of an equalized float model what `quantized` is of the float model.
        held_out: at most so many samples decide.
        progress: `with progress(stage, total) as advance`.
    """
    nothing = Outcome(False, None, quantized, float("nan"), float("nan"))
    if not groups(model):
        return nothing
    used, kept_back = split(data, SAMPLES, held_out)
    if not kept_back:
        return nothing
    seen = Dataset.of(used, data.inputs)  # the others are to show what unseen ones do at bounds that came nearer
    judge = Judge(model, kept_back)
    first = best = judge(quantized)
    result: Outcome | None = None
    with progress("equalizing channels", len(CANDIDATES)) as advance:
        extremes = channel_extremes(model, seen)
        for by in CANDIDATES:
            made = equalize(model, seen, by=by, extremes=extremes)
            if made.changed:
                candidate = requantize(made.model)
                verdict = judge(candidate)
                if verdict.beats(best):
                    best, result = verdict, Outcome(True, made, candidate, first.sqnr, verdict.sqnr)
                elif result is None or (not result.kept and verdict.sqnr > result.after):
                    result = Outcome(False, made, quantized, first.sqnr, verdict.sqnr)
            advance(1)
    return result or nothing
