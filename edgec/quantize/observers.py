"""Streaming observers: what range a value takes over all samples, in memory that doesn't grow with them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np

# Values under 2^−100 count as zero: float32 could not hold the factor that would tell them apart.
_SMALLEST = -100


class Observer(Protocol):
    """Sees a value once per sample and says the range to quantize it with."""

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array."""

    def range(self) -> tuple[float, float]:
        """(min, max); (inf, -inf) when nothing was seen."""


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


class Histogram:
    """Percentile range from a streaming histogram.

    `bins` equal bins over [−2^k, 2^k). When a value falls outside, k grows by one and pairs of bins are merged: exact,
    independent of the order of the samples up to the growth's history of the first, and bounded: 8 bytes a bin.

    Args:
        percentile: how much of the mass the range keeps, in percent; both tails lose half of the rest each. A value
            that is never negative keeps 0 as its minimum and loses all at the top.
        bins: a power of two.
    """

    def __init__(self, percentile: float = 99.999, bins: int = 4096) -> None:
        if not 50 < percentile <= 100:
            raise ValueError("percentile must be over 50 and at most 100")
        if bins < 4 or bins & (bins - 1):
            raise ValueError("bins must be a power of two, at least 4")
        self._percentile, self._bins = percentile, bins
        self._counts = np.zeros(bins, np.int64)
        self._power: int | None = None
        self._seen = MinMax()

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array."""
        self._seen.update(x)
        low, high = self._seen.range()
        largest = max(-low, high)
        if x.size == 0 or not math.isfinite(largest) or largest == 0:
            if x.size and largest == 0:
                self._counts[self._bins // 2] += x.size
            return
        needed = math.frexp(largest)[1]  # the least k with largest < 2^k
        if self._power is None:
            self._power = max(needed, _SMALLEST)
        while self._power < needed:
            self._grow()
        half = self._bins // 2
        index = np.floor(np.ravel(x).astype(np.float32) * np.float32(math.ldexp(half, -self._power))).astype(np.int64)
        self._counts += np.bincount(np.clip(index + half, 0, self._bins - 1), minlength=self._bins)

    def range(self) -> tuple[float, float]:
        """The range that keeps `percentile` of the mass, within what was seen."""
        low, high = self._seen.range()
        total = int(self._counts.sum())
        if total == 0 or self._power is None or not math.isfinite(low) or self._percentile == 100:
            return low, high
        one_sided = low >= 0 or high <= 0
        cut = total * (1 - self._percentile / 100) / (1 if one_sided else 2)
        width = math.ldexp(1.0, self._power) * 2 / self._bins
        below = np.cumsum(self._counts)
        first = int(np.searchsorted(below, cut, side="right"))
        last = self._bins - 1 - int(np.searchsorted(np.cumsum(self._counts[::-1]), cut, side="right"))
        trimmed_low = (first - self._bins // 2) * width
        trimmed_high = (last + 1 - self._bins // 2) * width
        return (low if low >= 0 else max(low, trimmed_low)), (high if high <= 0 else min(high, trimmed_high))

    def _grow(self) -> None:
        assert self._power is not None
        quarter, half = self._bins // 4, self._bins // 2
        merged = np.zeros_like(self._counts)
        merged[quarter : quarter + half] = self._counts.reshape(half, 2).sum(1)
        self._counts, self._power = merged, self._power + 1
