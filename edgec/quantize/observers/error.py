"""The range with the least quantization error: narrower steps against what is cut off."""

from __future__ import annotations

import math

import numpy as np

from edgec.quantize.observers.histogram import Histogram

# Fractions of the extremes that are tried for each side.
_FRACTIONS = np.geomspace(1.0, 0.05, 64)


def least_error(
    histogram: Histogram, *, norm: float = 2.0, levels: int = 255, symmetric: bool = False
) -> tuple[float, float]:
    """The range that minimises the mean of |x − quantized x|^norm.

    A value inside the range is off by up to half a step, evenly spread: (step/2)^norm / (norm + 1) on average; one
    outside by its distance to the range; zero by nothing. `norm` 2 is the mean squared error (Choukroun et al. 2019,
    arXiv:1902.06822); larger norms cut less, since rare large values often carry the answer (Nahshan et al. 2019,
    LAPQ, arXiv:1911.07190). With a histogram weighted by the energy of the weights that read each channel, it is the
    squared error of the next layer's *output*, to first order.

    Args:
        histogram: of the value.
        norm: at least 1.
        levels: steps between the ends of the range: 255 for 8 bits.
        symmetric: the range is to be symmetric about zero.
    """
    if norm < 1:
        raise ValueError("norm must be at least 1")
    low, high = histogram.range()
    centres, counts = histogram.centres, histogram.counts
    if histogram.width == 0 or not math.isfinite(low) or not math.isfinite(high) or low == high:
        return low, high
    used = counts > 0
    centres, counts = centres[used], counts[used]
    centres = np.clip(centres, low, high)
    zeroed_low, zeroed_high = min(low, 0.0), max(high, 0.0)
    if symmetric:
        largest = max(-zeroed_low, zeroed_high)
        pairs = [(-largest * f, largest * f) for f in _FRACTIONS]
        below = [(np.abs(np.minimum(centres - a, 0)) ** norm) @ counts for a, _ in pairs]
        above = [(np.maximum(centres - b, 0) ** norm) @ counts for _, b in pairs]
        cost = np.array(below) + np.array(above) + [_rounding(b - a, levels, norm) * counts.sum() for a, b in pairs]
        a, b = pairs[int(np.argmin(cost))]
        return max(low, a), min(high, b)
    lows, highs = zeroed_low * _FRACTIONS, zeroed_high * _FRACTIONS
    lows, highs = (lows if zeroed_low < 0 else lows[:1]), (highs if zeroed_high > 0 else highs[:1])
    below = (np.maximum(lows[:, None] - centres, 0) ** norm) @ counts
    above = (np.maximum(centres - highs[:, None], 0) ** norm) @ counts
    inside = _rounding(highs[None] - lows[:, None], levels, norm) * counts.sum()
    i, j = np.unravel_index(int(np.argmin(below[:, None] + above[None] + inside)), inside.shape)
    return max(low, float(lows[i])), min(high, float(highs[j]))


def _rounding(span: np.ndarray | float, levels: int, norm: float) -> np.ndarray:
    """The mean |error|^norm of values evenly spread over the steps of a range."""
    return np.asarray((np.asarray(span) / levels / 2) ** norm / (norm + 1))
