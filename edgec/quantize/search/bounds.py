"""How far a drop may reach beyond the one that was seen: one-sided bounds for paired samples that hold for any number.

Each sample gives a difference d = float − quantized. Metrics that are right or wrong (0 or 1): the drop is at most the
probability of a loss, bounded exactly by Clopper & Pearson 1934 (gains are not counted against losses, so the bound is
on the safe side); 0 losses in 400 bound it at 0.75 % with 95 % confidence. Metrics between 0 and 1: the bound by
betting of Waudby-Smith & Ramdas 2023, "Estimating means of bounded random variables by betting" (arXiv:2010.09686),
over a fixed mixture of bets, so that the order of samples doesn't matter. Others have none that holds for few samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BETS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Fractions of the largest bet that can't lose more than there is; the mixture of all is one bet."""


def upper_bound(losses: Sequence[float], confidence: float, *, binary: bool) -> float:
    """The drop that the true one exceeds with probability 1 − confidence at most.

    Args:
        losses: float's value less the quantized model's, sample by sample, each in [−1, 1].
        confidence: in (0, 1).
        binary: whether the metric is 0 or 1 on every sample.

    Raises:
        ValueError: no samples, or a difference outside [−1, 1].
    """
    d = np.asarray(losses, np.float64)
    if not d.size or not (np.abs(d) <= 1 + 1e-9).all():
        raise ValueError("paired differences must be in [-1, 1], at least one")
    if binary:
        return clopper_pearson(int((d > 0.5).sum()), len(d), confidence)
    low, high = float(d.mean()), 1.0
    if _wealth(d, high) < 1 / (1 - confidence):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _wealth(d, middle) >= 1 / (1 - confidence) else (middle, high)
    return high


def clopper_pearson(events: int, n: int, confidence: float) -> float:
    """The exact upper bound of a probability: events of n were seen."""
    if events >= n:
        return 1.0
    if events == 0:
        return 1 - float((1 - confidence) ** (1 / n))
    low, high = events / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(events, n, middle) > 1 - confidence else (low, middle)
    return high


def samples_needed(max_drop: float, confidence: float) -> int:
    """The least number of samples that can show a drop of at most `max_drop` at all: without a single loss."""
    if max_drop >= 1:
        return 1
    if max_drop <= 0:
        raise ValueError("no number of samples shows that nothing is lost")
    return math.ceil(math.log(1 - confidence) / math.log1p(-max_drop))


def _at_most(k: int, n: int, p: float) -> float:
    """P(Binomial(n, p) ≤ k)."""
    i = np.arange(k + 1)
    log = np.array([math.lgamma(n + 1) - math.lgamma(j + 1) - math.lgamma(n - j + 1) for j in i])
    log += i * math.log(p) + (n - i) * math.log1p(-p) if 0 < p < 1 else -np.inf
    return float(np.exp(log).sum())


def _wealth(d: np.ndarray, drop: float) -> float:
    """What bets on "the mean drop is under `drop`" have made, on average; over 1/α refutes that it is more."""
    most = 1 / (1 - drop) if drop < 1 else 1e9  # d ≤ 1: no factor is negative
    gains = drop - d
    with np.errstate(over="ignore"):
        logs = [float(np.log(np.maximum(1 + bet * most * gains, 1e-300)).sum()) for bet in BETS]
    largest = max(logs)
    return math.exp(min(700.0, largest)) * float(np.mean(np.exp(np.array(logs) - largest)))
