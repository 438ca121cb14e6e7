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


def sqnr_db(reference: np.ndarray | Outputs, test: np.ndarray | Outputs) -> float:
    """Signal to quantization noise, 10·log10(Σ ref² / Σ (ref − test)²), in dB, summed in float64 over all arrays.

    Equal arrays give +inf, noise on a zero reference −inf.
    """
    refs = [reference] if isinstance(reference, np.ndarray) else reference
    tests = [test] if isinstance(test, np.ndarray) else test
    signal = noise = 0.0
    for r, t in zip(refs, tests, strict=True):
        a, b = np.asarray(r, np.float64), np.asarray(t, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # ∞ − ∞ is NaN, and that is the answer
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


def reported_db(value: float) -> float | None:
    """Decibels as reports hold them: two digits, at most ±200 (identical, or noise alone); None for undefined ones."""
    return None if math.isnan(value) else round(max(-200.0, min(200.0, value)), 2)


def cosine(reference: np.ndarray, test: np.ndarray) -> float:
    """Cosine of the angle between two arrays seen as vectors, in float64; 1.0 when both are zero."""
    a, b = np.asarray(reference, np.float64).ravel(), np.asarray(test, np.float64).ravel()
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return 1.0 if np.array_equal(a, b) else 0.0
    return float(a @ b) / norms
