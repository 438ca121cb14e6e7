"""A range that keeps most of the mass."""

from __future__ import annotations

import math

import numpy as np

from edgec.quantize.observers.histogram import Histogram


def percentile(histogram: Histogram, keep: float) -> tuple[float, float]:
    """The range that keeps `keep` percent of the mass, within what was seen.

    Both tails lose half of the rest each. A value that is never negative keeps its minimum and loses all at the top.

    Args:
        histogram: of the value.
        keep: over 50, at most 100.

    Raises:
        ValueError: `keep` is out of its range.
    """
    if not 50 < keep <= 100:
        raise ValueError("percentile must be over 50 and at most 100")
    low, high = histogram.range()
    width, half = histogram.width, histogram.bins // 2
    if width == 0 or not math.isfinite(low) or not math.isfinite(high) or keep == 100:
        return low, high
    counts = histogram.counts.copy()
    counts[half] += histogram.zeros
    cut = counts.sum() * (1 - keep / 100) / (1 if low >= 0 or high <= 0 else 2)
    first = int(np.searchsorted(np.cumsum(counts), cut, side="right"))
    last = len(counts) - 1 - int(np.searchsorted(np.cumsum(counts[::-1]), cut, side="right"))
    trimmed_low, trimmed_high = (first - half) * width, (last + 1 - half) * width
    return (low if low >= 0 else max(low, trimmed_low)), (high if high <= 0 else min(high, trimmed_high))
