"""Numbers that compare a quantized model with the float one, and the Score that carries one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Outputs = Sequence[np.ndarray]


@dataclass(frozen=True)
class Score:
    """The value of a metric, higher is better.

    Attributes:
        metric: its name ("top1", "agreement").
        value: the aggregate.
        n: how many samples it was taken over.
        per_sample: one value per sample in the order evaluated, where the metric is a mean over samples.
        extra: further numbers that the evaluation gave, for the report.
    """

    metric: str
    value: float
    n: int
    per_sample: tuple[float, ...] | None = None
    extra: Mapping[str, float] = field(default_factory=dict)


def agreement(reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
    """How often a model decides as the reference does: top-1 agreement on one of its outputs, in [0, 1].

    Args:
        reference: per sample the reference's outputs.
        outputs: per sample the tested model's outputs.
        output: which output decides. Its last axis are the classes; leading axes are positions, averaged within the
            sample. Where the last axis has one element (a probability), the decision is `> 0.5`.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(outputs)} samples to compare with {len(reference)}")
    per_sample = []
    for ours, theirs in zip(outputs, reference, strict=True):
        a, b = np.asarray(ours[output]), np.asarray(theirs[output])
        if a.shape != b.shape:
            raise ValueError(f"output shapes differ: {a.shape} and {b.shape}")
        if a.ndim and a.shape[-1] > 1:
            same = a.argmax(-1) == b.argmax(-1)
        else:
            same = (a > 0.5) == (b > 0.5)
        per_sample.append(float(np.mean(same)))
    return Score("agreement", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))


def sqnr_db(reference: np.ndarray | Outputs, test: np.ndarray | Outputs) -> float:
    """Signal to quantization noise, 10·log10(Σ ref² / Σ (ref − test)²), in dB, summed in float64 over all arrays.

    Equal arrays give +inf, noise on a zero reference −inf.
    """
    refs = [reference] if isinstance(reference, np.ndarray) else reference
    tests = [test] if isinstance(test, np.ndarray) else test
    signal = noise = 0.0
    for r, t in zip(refs, tests, strict=True):
        a, b = np.asarray(r, np.float64), np.asarray(t, np.float64)
        signal += float(np.sum(a * a))
        noise += float(np.sum((a - b) ** 2))
    return ratio_db(signal, noise)


def ratio_db(signal: float, noise: float) -> float:
    """10·log10(signal / noise) of two energies, with the limits at zero; NaN stays NaN."""
    if math.isnan(signal) or math.isnan(noise):
        return math.nan
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def cosine(reference: np.ndarray, test: np.ndarray) -> float:
    """Cosine of the angle between two arrays seen as vectors, in float64; 1.0 when both are zero."""
    a, b = np.asarray(reference, np.float64).ravel(), np.asarray(test, np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b) / norms
