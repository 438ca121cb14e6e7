"""Observers of extremes: over all samples, or averaged over them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np


class Observer(Protocol):
    """Sees a value once per sample and says the range to quantize it with."""

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array."""

    def range(self) -> tuple[float, float]:
        """(min, max); (inf, -inf) when nothing was seen, (nan, nan) after a non-finite value."""


class MinMax:
    """The smallest and largest value seen. Not finite once a non-finite value passed."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf
        self._broken = False

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array (or its minimum and maximum, taken elsewhere)."""
        if x.size == 0:
            return
        low, high = float(np.min(x)), float(np.max(x))
        self._broken |= not (math.isfinite(low) and math.isfinite(high))
        self._low, self._high = min(self._low, low), max(self._high, high)

    def range(self) -> tuple[float, float]:
        """(min, max); (nan, nan) after a non-finite value; (inf, -inf) when nothing was seen."""
        return (math.nan, math.nan) if self._broken else (self._low, self._high)


class MovingAverage:
    """An exponential moving average of each sample's extremes: one odd sample can't widen the range for all.

    Jacob et al. 2018 (arXiv:1712.05877), section 3.1. The first sample starts it; the order of the samples matters.

    Args:
        momentum: how much of the old extremes stays at each sample, in [0, 1).
    """

    def __init__(self, momentum: float = 0.9) -> None:
        if not 0 <= momentum < 1:
            raise ValueError("momentum must be at least 0 and under 1")
        self._momentum = momentum
        self._range: tuple[float, float] | None = None
        self._broken = False

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array (or its minimum and maximum, taken elsewhere)."""
        if x.size == 0:
            return
        low, high = float(np.min(x)), float(np.max(x))
        if not (math.isfinite(low) and math.isfinite(high)):
            self._broken = True
        elif self._range is None:
            self._range = low, high
        else:
            old, m = self._range, self._momentum
            self._range = m * old[0] + (1 - m) * low, m * old[1] + (1 - m) * high

    def range(self) -> tuple[float, float]:
        """The averages; (nan, nan) after a non-finite value; (inf, -inf) when nothing was seen."""
        if self._broken:
            return math.nan, math.nan
        return self._range or (math.inf, -math.inf)
