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
            sample. Where the last axis has one element (a probability), the decision is `> 0.5`. Outputs that are no
            floating-point numbers must be equal.

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
        if a.dtype.kind not in "fV":  # labels, counts, text: a decision already
            same = a == b
        elif a.ndim and a.shape[-1] > 1:
            same = a.argmax(-1) == b.argmax(-1)
        else:
            same = (a > 0.5) == (b > 0.5)
        per_sample.append(float(np.mean(same)))
    return Score("agreement", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))


def decides(outputs: Outputs, *, output: int = 0) -> bool:
    """Whether one of a model's outputs is a decision, so that `agreement` means something.

    Images and feature maps (four axes and more) are not: their last axis is the width, not the classes.
    """
    array = np.asarray(outputs[output])
    return array.ndim < 4 or array.dtype.kind not in "fiuV"


def closeness(reference: Sequence[Outputs], outputs: Sequence[Outputs], *, output: int = 0) -> Score:
    """How much of the reference's energy is kept: 1 − Σ (ref − test)² / Σ ref² of one output, from 0 up, at most 1.

    Args:
        reference: per sample the reference's outputs.
        outputs: per sample the tested model's outputs.
        output: which output; numbers.

    Raises:
        ValueError: when the samples or shapes differ.
    """
    if len(reference) != len(outputs) or not reference:
        raise ValueError(f"{len(outputs)} samples to compare with {len(reference)}")
    per_sample = []
    for ours, theirs in zip(outputs, reference, strict=True):
        a, b = np.asarray(ours[output], np.float64), np.asarray(theirs[output], np.float64)
        if a.shape != b.shape:
            raise ValueError(f"output shapes differ: {a.shape} and {b.shape}")
        with np.errstate(invalid="ignore", over="ignore"):
            signal, noise = float(np.sum(b * b)), float(np.sum((a - b) ** 2))
        kept = 1 - noise / signal if signal > 0 else float(noise == 0)
        per_sample.append(max(0.0, kept) if math.isfinite(kept) else float(np.array_equal(a, b, equal_nan=True)))
    return Score("closeness", float(np.mean(per_sample)), len(per_sample), tuple(per_sample))


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
