"""A streaming histogram: how a value's elements are distributed over all samples, in bounded memory."""

from __future__ import annotations

import math

import numpy as np

from edgec.quantize.observers.minmax import MinMax

# Values under 2^−100 count as zero: float32 could not hold the factor that would tell them apart.
_SMALLEST = -100


class Histogram:
    """Counts in equal bins over [−2^k, 2^k).

    When a value falls outside, k grows by one and pairs of bins are merged: exact, the same for any order of the
    samples, and bounded: 8 bytes a bin. Elements that are exactly zero (behind a ReLU: most) are counted apart,
    because quantization represents them exactly.

    Args:
        bins: a power of two.
        most: of a larger array, about so many elements are counted, evenly spread; extremes are always exact.
            None: all.
        energy: how much an error in each channel matters (channels,), with `axis`: counts are weighted with it.
        axis: the channels' axis.
    """

    def __init__(
        self, bins: int = 4096, *, most: int | None = None, energy: np.ndarray | None = None, axis: int = 1
    ) -> None:
        if bins < 4 or bins & (bins - 1):
            raise ValueError("bins must be a power of two, at least 4")
        if most is not None and most < 1:
            raise ValueError("at least one element must be counted")
        self.bins = bins
        self.counts = np.zeros(bins, np.float64)
        self.zeros = 0.0
        self.seen = MinMax()
        self._power: int | None = None
        self._most, self._energy, self._axis = most, energy, axis

    @property
    def width(self) -> float:
        """Of a bin; 0 while all that was seen is zero."""
        return 0.0 if self._power is None else math.ldexp(1.0, self._power) * 2 / self.bins

    @property
    def centres(self) -> np.ndarray:
        """Of the bins, float64 (bins,)."""
        return (np.arange(self.bins) - self.bins // 2 + 0.5) * self.width

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array."""
        self.seen.update(x)
        low, high = self.seen.range()
        largest = max(-low, high)
        if x.size == 0 or not math.isfinite(largest):
            return
        flat, weights = self._elements(x)
        zero = flat == 0
        self.zeros += float(zero.sum() if weights is None else weights[zero].sum())
        if largest == 0:
            return
        needed = math.frexp(largest)[1]  # the least k with largest < 2^k
        if self._power is None:
            self._power = max(needed, _SMALLEST)
        while self._power < needed:
            self._grow()
        flat = flat[~zero]
        weights = None if weights is None else weights[~zero]
        half = self.bins // 2
        index = np.floor(flat.astype(np.float32) * np.float32(math.ldexp(half, -self._power))).astype(np.int64)
        self.counts += np.bincount(np.clip(index + half, 0, self.bins - 1), weights, self.bins)

    def range(self) -> tuple[float, float]:
        """The extremes: (nan, nan) after a non-finite value; (inf, -inf) when nothing was seen."""
        return self.seen.range()

    def _elements(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        flat = np.ravel(x)
        # An odd step, not to walk along one column of an image.
        step = slice(None, None, 1 if self._most is None or flat.size <= self._most else flat.size // self._most | 1)
        if self._energy is None:
            return flat[step], None
        shape = [-1 if i == self._axis % x.ndim else 1 for i in range(x.ndim)]
        return flat[step], np.broadcast_to(self._energy.reshape(shape), x.shape).reshape(-1)[step]

    def _grow(self) -> None:
        assert self._power is not None
        quarter, half = self.bins // 4, self.bins // 2
        merged = np.zeros_like(self.counts)
        merged[quarter : quarter + half] = self.counts.reshape(half, 2).sum(1)
        self.counts, self._power = merged, self._power + 1
