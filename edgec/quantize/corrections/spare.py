"""Layers at one end of a model that stay float because their noise costs more than their integers give.

Noise rarely comes from one layer. Where no single layer matters, a stretch of them does: the first layers' noise goes
through everything behind them, and the last ones' into the answer undamped. A stretch at an end has one border, so few
conversions; and early convolutional layers hold few of the weights. (PP-OCR's direction classifier: leaving out any
one of 53 layers changes nothing; its first 20, 8 % of the weights, halve the expected disagreement.)

What a stretch may cost, and in what, the caller says: bytes where integers are not faster anyway, time otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgec.data import Dataset, InputSpec
from edgec.progress import Progress, silent
from edgec.quantize import layers
from edgec.quantize.corrections.expected import Expected, Feed
from edgec.quantize.scheme import Assignment

WANTED = 0.995  # expected likeness from which on nothing more stays float: half of what a budget of 1 % allows
GAIN = 0.25  # part of the expected disagreement that a stretch must take away where it does not reach `WANTED`
SLACK = 0.1  # part of the expected disagreement more than the best's at which a cheaper stretch is as good
SMALL = 0.02  # cost of a last layer that goes with the first ones
FOLDS = 4
PARTS = 8  # lengths that are tried: so many parts of the model


@dataclass(frozen=True)
class Stretch:
    """Layers at one end of a model.

    Attributes:
        name: "first 20 layers and the last", "last 4 layers".
        floats: the layers' names.
        cost: of keeping them float, relative; what it is relative to the caller knows.
    """

    name: str
    floats: tuple[str, ...]
    cost: float


@dataclass(frozen=True)
class Spared:
    """What stays float for the answers' sake.

    Attributes:
        stretch: the one taken; None where none was, or none was needed.
        before: expected likeness without it; None where nothing was measured.
        after: with it.
        tried: how many stretches were.
    """

    stretch: Stretch | None
    before: float | None
    after: float | None
    tried: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        taken = self.stretch
        return {
            "kept_float": None if taken is None else taken.name,
            "layers": [] if taken is None else list(taken.floats),
            "cost": None if taken is None else round(taken.cost, 4),
            "expected_likeness_before": _rounded(self.before),
            "expected_likeness_after": _rounded(self.after),
            "tried": self.tried,
        }


def _rounded(likeness: float | None) -> float | None:
    return None if likeness is None else round(likeness, 5)


def stretches(model: ir.Model, assignment: Assignment, cost: Callable[[Collection[str]], float]) -> list[Stretch]:
    """The first and the last layers with weights, in lengths of eighths of the model; the cheapest first.

    A small last layer goes with each of the first ones: it costs next to nothing, and what unseen inputs do outside the
    range that was calibrated goes from there straight into the answer, where calibration samples can't show it.

    Args:
        model: the float model.
        assignment: layers that are None in it don't count.
        cost: of keeping layers float.
    """
    names = [n for node, n in layers.layer_names(model).items() if assignment.get(n) and layers.weight_of(node)]
    head = names[-1:] if names and cost(names[-1:]) <= SMALL else []
    lengths = sorted({round(i * len(names) / PARTS) for i in range(1, PARTS)} - {0, len(names)})
    found = []
    for length in lengths:
        words = f"{length} layer{'s' * (length != 1)}"
        start = names[:length] + (head if length < len(names) - 1 else [])
        found.append(Stretch(f"first {words}{' and the last' * bool(head)}", tuple(start), cost(start)))
        found.append(Stretch(f"last {words}", tuple(names[-length:]), cost(names[-length:])))
    return sorted(found, key=lambda s: (s.cost, s.name))


def by_bytes(model: ir.Model) -> Callable[[Collection[str]], float]:
    """Cost: by how much the integer weights' bytes grow (1: they double) where layers keep float32 ones."""
    named = layers.layer_names(model).items()
    sizes = {name: w.const_value.size for node, name in named if (w := layers.weight_of(node)) and w.const_value}
    total = max(sum(sizes.values()), 1)
    return lambda floats: 3 * sum(sizes.get(name, 0) for name in floats) / total


def folds(feeds: Sequence[Feed], inputs: Sequence[InputSpec]) -> list[Dataset]:
    """Calibration data by all samples but each fourth, in turn; empty with fewer than four samples."""
    if len(feeds) < FOLDS:
        return []
    return [Dataset.of([f for i, f in enumerate(feeds) if i % FOLDS != k], inputs) for k in range(FOLDS)]


def spare(
    expected: Expected,
    offered: Sequence[Stretch],
    quantizers: Sequence[Callable[[Collection[str]], ir.Model]],
    *,
    progress: Progress = silent,
) -> Spared:
    """The cheapest stretch with which a model is expected to be like enough to the float one; the best where none is.

    What is expected is cross-validated: samples that a range was taken from never leave it, others do, and with some
    dozens of samples that is much of the noise.

    Args:
        expected: made of the float model and calibration samples.
        offered: stretches that may be taken, the cheapest first.
        quantizers: by fold (`folds`), what makes a model with these layers in float by ranges of the fold's samples.
        progress: `with progress(stage, total) as advance`.
    """
    if not offered or not quantizers:
        return Spared(None, None, None)

    def measured(floats: Collection[str]) -> float:
        found = [expected(make(floats), noise_of=slice(k, None, FOLDS)) for k, make in enumerate(quantizers)]
        return sum(found) / len(found)

    before = measured(())
    likely: list[float] = []
    if before < WANTED:
        with progress("looking for layers to spare", len(offered)) as advance:
            for stretch in offered:
                likely.append(measured(stretch.floats))
                advance(1)
                if likely[-1] >= WANTED:
                    break
    best = max(likely, default=before)
    if best < WANTED and 1 - best > (1 - GAIN) * (1 - before):
        return Spared(None, before, before, len(likely))
    enough = WANTED if best >= WANTED else 1 - (1 - best) * (1 + SLACK)
    i = next((i for i, found in enumerate(likely) if found >= enough), None)
    return Spared(None if i is None else offered[i], before, before if i is None else likely[i], len(likely))
