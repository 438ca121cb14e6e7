"""How near a model's answers are to the float model's: one code for every row, numpy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Answers = Sequence[Sequence[Any]]
"""By call, by output."""


def sqnr_db(expected: Answers, got: Answers) -> float | None:
    """10·log10(Σ e² / Σ (e − g)²) over all float outputs of all calls, dB, in float64. Equal: 200; undefined: None."""
    signal = noise = 0.0
    for one, other in zip(expected, got, strict=True):
        for e, g in zip(one, other, strict=True):
            if np.asarray(e).dtype.kind == "f":
                a, b = np.asarray(e, np.float64), np.asarray(g, np.float64)
                signal += float(np.sum(a * a))
                noise += float(np.sum((a - b) ** 2))
    if not (math.isfinite(signal) and math.isfinite(noise)) or signal == 0:
        return None
    return 200.0 if noise == 0 else round(10 * math.log10(signal / noise), 2)


def agreement(expected: Answers, got: Answers) -> float:
    """The share of calls whose first output has its largest element where the float model's has it."""
    return float(np.mean([np.argmax(e[0]) == np.argmax(g[0]) for e, g in zip(expected, got, strict=True)]))


def cosines(expected: Answers, got: Answers) -> np.ndarray:
    """Cosine of the angle between the first outputs, call by call."""
    found = []
    for e, g in zip(expected, got, strict=True):
        a, b = np.asarray(e[0], np.float64).ravel(), np.asarray(g[0], np.float64).ravel()
        found.append(float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-30))
    return np.array(found)


def compared(case: str, score: dict[str, Any], expected: Answers, got: Answers) -> dict[str, Any]:
    """What a row says: the task's own score and what fits the task, besides decibels.

    Args:
        case: the zoo's name.
        score: what its eval.py gave.
        expected: the float model's answers, before a final softmax.
        got: the same of the model scored.
    """
    row: dict[str, Any] = {k: v for k, v in score.items() if isinstance(v, int | float | str)}
    row["sqnr_db"] = sqnr_db(expected, got)
    if score["metric"] == "top1":
        row["agreement"] = round(agreement(expected, got), 4)
    if case.startswith("minilm"):
        values = cosines(expected, got)
        row |= {"cosine_mean": round(float(values.mean()), 5), "cosine_p5": round(float(np.percentile(values, 5)), 5)}
    return row
