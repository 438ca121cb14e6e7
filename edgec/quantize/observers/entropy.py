"""The range whose quantized distribution diverges least from the float one."""

from __future__ import annotations

import math

import numpy as np

from edgec.quantize.observers.histogram import Histogram


def entropy(histogram: Histogram, *, levels: int = 128) -> tuple[float, float]:
    """The range with the least Kullback–Leibler divergence between float and quantized distribution.

    Migacz 2017, "8-bit Inference with TensorRT" (GTC): magnitudes in 2,048 bins; for each threshold the distribution
    cut there (what lies beyond goes into the last bin) is compared with itself on `levels` levels, spread back over
    the bins that were not empty. The threshold is symmetric about zero.

    Args:
        histogram: of the value.
        levels: of a magnitude: 128 for 8 bits.
    """
    low, high = histogram.range()
    half = histogram.bins // 2
    if histogram.width == 0 or not math.isfinite(low) or not math.isfinite(high) or half <= levels:
        return low, high
    magnitudes = histogram.counts[half:] + histogram.counts[:half][::-1]
    last = int(np.flatnonzero(magnitudes)[-1]) + 1
    if last <= levels:
        return low, high
    tail = np.cumsum(magnitudes[::-1])[::-1]  # tail[i]: mass of bins i and later
    best, chosen = math.inf, last
    for end in range(levels, last + 1):
        reference = magnitudes[:end].copy()
        if end < len(magnitudes):
            reference[-1] += tail[end]
        divergence = _divergence(reference, _coarse(magnitudes[:end], levels))
        if divergence < best:
            best, chosen = divergence, end
    threshold = chosen * histogram.width
    return max(low, -threshold), min(high, threshold)


def _coarse(counts: np.ndarray, levels: int) -> np.ndarray:
    """Counts merged into `levels` levels and spread evenly over those bins of each level that were not empty."""
    level = np.minimum(np.arange(len(counts)) * levels // len(counts), levels - 1)
    filled = counts > 0
    mass = np.bincount(level, counts, levels)
    share = np.bincount(level, filled, levels)
    return np.where(filled, (mass / np.maximum(share, 1))[level], 0.0)


def _divergence(p: np.ndarray, q: np.ndarray) -> float:
    total, other = p.sum(), q.sum()
    if total == 0 or other == 0:
        return math.inf
    p, q = p / total, q / other
    used = p > 0
    # A bin that only the float distribution has (the cut-off tail fell on an empty one) costs as if nearly missing.
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))
