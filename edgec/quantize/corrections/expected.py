"""How often a quantized model will decide as the float model does, from few samples and no labels.

Counting disagreements needs thousands of samples: 24 of them can't tell 98 % from 100 %. But each sample says more than
yes or no: how far its decision is from tipping over (the margin of the first over the second, before probabilities) and
how far noise moves that margin. Noise is a sum of many roundings, so near to normal: a decision with margin m and noise
of standard deviation σ stays with probability Φ(m / σ). The mean over margins of many samples and the σ of as few have
a far smaller variance than a count. On the zoo (32 … 200 calibration samples) it is within 0.7 points of what
evaluation sets show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.likeness import agreement, direction, suited
from edgec.data.metrics import cosine
from edgec.quantize.corrections.judge import before_probabilities
from edgec.quantize.session import Session

Feed = dict[str, np.ndarray]
SAMPLES = 64  # at most
MEMORY = 64 << 20  # bytes of outputs that are kept at most


@dataclass(frozen=True)
class _Output:
    """One float output: what judges it; of decisions the classes that are first and second, and their margin."""

    measure: str
    values: list[np.ndarray]
    tops: list[np.ndarray]
    margins: list[np.ndarray]


class Expected:
    """Expected likeness of quantized models to the float one, in [0, 1]: of the output that suffers most.

    Outputs that decide (`edgec.data.likeness.suited`): the expected share of equal decisions. Others: mean cosine or
    the share of energy kept, as `likeness` has them.

    Args:
        model: the float model.
        feeds: samples, the first `SAMPLES` or as many as `MEMORY` allows are used; at least one.
    """

    def __init__(self, model: ir.Model, feeds: Sequence[Feed]) -> None:
        real, before = Session(model), Session(before_probabilities(model))
        self.feeds: list[Feed] = []
        removed = [v.name != w.name for v, w in zip(model.graph.outputs, _before(model), strict=True)]
        answers, inner, size = [], [], 0
        for feed in feeds[:SAMPLES]:
            answers.append(real.run(feed))
            inner.append(before.run(feed))
            self.feeds.append(feed)
            size += sum(getattr(a, "nbytes", 0) for a in (*answers[-1], *inner[-1]))  # sequences are lists
            if size > MEMORY:
                break
        floats = [n for n, a in enumerate(answers[0]) if isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.size]
        self._outputs = {n: _output(answers, [values[n] for values in inner], n, removed[n]) for n in floats}

    def __call__(self, model: ir.Model, *, noise_of: slice = slice(None)) -> float:
        """The expected likeness of a model with the same inputs and outputs; 0 where its noise is not finite.

        Args:
            model: quantized.
            noise_of: samples whose noise counts, where others were fitted on; margins are those of all.
        """
        session = Session(before_probabilities(model))
        chosen = range(len(self.feeds))[noise_of] or range(len(self.feeds))
        got = [session.run(self.feeds[i]) for i in chosen]
        values = [_likeness(out, [run[n] for run in got], chosen) for n, out in self._outputs.items()]
        return min(values, default=1.0)


def take(data: Dataset) -> list[Feed]:
    """The first samples, as many as are used here and fit into `MEMORY`; at least one."""
    taken: list[Feed] = []
    size = 0
    for feed in data:
        size += sum(array.nbytes for array in feed.values())
        if len(taken) == SAMPLES or (taken and size > MEMORY):
            break
        taken.append(feed)
    return taken


def _before(model: ir.Model) -> Sequence[ir.Value]:
    return before_probabilities(model).graph.outputs


def _output(answers: list[list[np.ndarray]], values: list[np.ndarray], n: int, removed: bool) -> _Output:
    measure = suited(answers, output=n)
    if measure is not agreement:
        return _Output("cosine" if measure is direction else "closeness", values, [], [])
    tops, margins = [], []
    for value in values:
        if value.ndim and value.shape[-1] > 1:
            top = np.argsort(value, -1, kind="stable")[..., :-3:-1]
            pair = np.take_along_axis(value.astype(np.float64), top, -1)
            tops.append(top)
            margins.append(pair[..., 0] - pair[..., 1])
        else:  # one probability, or what it is made of: there a half is 0
            margins.append(value.astype(np.float64) - (0.0 if removed else 0.5))
    return _Output("agreement", values, tops, margins)


def _likeness(out: _Output, got: list[np.ndarray], chosen: range) -> float:
    if out.measure != "agreement":
        return float(np.mean([_alike(out.measure, out.values[i], g) for i, g in zip(chosen, got, strict=True)]))
    squares = count = 0.0
    for i, value in zip(chosen, got, strict=True):
        with np.errstate(invalid="ignore", over="ignore"):
            error = value.astype(np.float64) - out.values[i]
            if out.tops:
                pair = np.take_along_axis(error, out.tops[i], -1)
                error = pair[..., 0] - pair[..., 1]
            squares += float(np.square(error).sum())
        count += error.size
    if not math.isfinite(squares):
        return 0.0
    deviation = math.sqrt(squares / max(count, 1.0))
    margins = np.abs(np.concatenate([m.ravel() for m in out.margins]))
    found = float(np.mean(_normal(margins / deviation))) if deviation > 0 else 1.0
    return found if math.isfinite(found) else 0.0


def _alike(measure: str, reference: np.ndarray, value: np.ndarray) -> float:
    """Of one sample, in [0, 1]: as `edgec.data.likeness` has it."""
    with np.errstate(invalid="ignore", over="ignore"):
        a, b = reference.astype(np.float64), value.astype(np.float64)
        if measure == "cosine":
            pairs = zip(a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]), strict=True)
            found = float(np.mean([cosine(x, y) for x, y in pairs]))
        else:
            signal, noise = float(np.square(a).sum()), float(np.square(a - b).sum())
            found = 1 - noise / signal if signal > 0 else float(noise == 0)
    return max(0.0, found) if math.isfinite(found) else 0.0


def _normal(x: np.ndarray) -> np.ndarray:
    """The normal distribution's Φ for x ≥ 0 (Abramowitz & Stegun 7.1.26, within 2·10⁻⁷)."""
    z = x / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    result: np.ndarray = 1 - series * np.exp(-np.square(z)) / 2
    return result
