"""What decides whether a correction stays: the outputs on calibration samples that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import layers
from edgec.quantize.session import Session

Feed = dict[str, np.ndarray]


def split(data: Dataset, samples: int, held_out: int) -> tuple[list[Feed], list[Feed]]:
    """The first feeds, three to correct with, one to check with, and so on; stops reading when it has enough."""
    used: list[Feed] = []
    kept_back: list[Feed] = []
    for i, feed in enumerate(data):
        target, limit = (kept_back, held_out) if i % 4 == 3 else (used, samples)
        if len(target) < limit:
            target.append(feed)
        elif len(used) >= samples and len(kept_back) >= held_out:
            break
    return used, kept_back


@dataclass(frozen=True)
class Verdict:
    """How near a model's outputs are to the float model's.

    Attributes:
        sqnr: over all samples together, dB.
        typical: the mean over samples of log10(noise / signal): one sample can't decide it.
    """

    sqnr: float
    typical: float

    def beats(self, other: Verdict) -> bool:
        """Whether it is nearer in sum *and* on the typical sample; undefined numbers never are."""
        return self.sqnr > other.sqnr and self.typical < other.typical


class Judge:
    """Holds models against the float one on held-out samples.

    Args:
        model: the float model.
        feeds: the samples, at least one.
    """

    def __init__(self, model: ir.Model, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        session = Session(before_probabilities(model))
        self._expected = [_floats(session.run(feed)) for feed in feeds]

    def __call__(self, model: ir.Model) -> Verdict:
        """The verdict on a model with the same inputs and outputs."""
        session = Session(before_probabilities(model))
        tiny = np.finfo(np.float64).tiny
        signal, error = [], []
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            got = _floats(session.run(feed))
            signal.append(_energy(expected))
            error.append(_difference(expected, got))
        ratios = np.log10(np.array(error) + tiny) - np.log10(np.array(signal) + tiny)
        return Verdict(ratio_db(sum(signal), sum(error)), float(np.mean(ratios)))


def noise(model: ir.Model, candidates: list[ir.Model], feeds: list[Feed]) -> np.ndarray:
    """Per sample the signal's energy, then each candidate's noise energy, over the float outputs: (samples, 1 + n)."""
    reference, *sessions = (Session(before_probabilities(m)) for m in (model, *candidates))
    rows = []
    for feed in feeds:
        expected = _floats(reference.run(feed))
        row = [_energy(expected)]
        for session in sessions:
            row.append(_difference(expected, _floats(session.run(feed))))
        rows.append(row)
    return np.array(rows)


def before_probabilities(model: ir.Model) -> ir.Model:
    """A copy whose outputs are taken before a final Softmax or Sigmoid.

    A saturated probability hides errors on most samples and blows up the few others, so that it ranks corrections by
    chance.
    """
    copy = model.clone()
    for i, output in enumerate(copy.graph.outputs):
        node = output.producer()
        if node is not None and layers.is_onnx(node) and node.op_type in ("Softmax", "LogSoftmax", "Sigmoid"):
            before = node.inputs[0]
            if before is not None and not before.is_graph_input():
                before.dtype = ir.DataType.FLOAT
                copy.graph.outputs[i] = before
    return copy


def _floats(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [a for a in arrays if a.dtype.kind == "f"]


def _difference(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞ is NaN, which no candidate beats another with
        return _energy([a - b for a, b in zip(expected, got, strict=True)])


def _energy(arrays: Sequence[np.ndarray]) -> float:
    return float(sum(np.square(a, dtype=np.float64).sum() for a in arrays))
