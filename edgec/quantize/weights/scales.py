"""Which scale a group of weights gets: of several clipped ranges, the one with the least weighted squared error.

Min-max is the first candidate, so that none of the others can do worse by that measure. Where it is known how much each
input feature varies (the diagonal of H = XᵀX), errors count by it, which is what Lin et al. 2023, "AWQ"
(arXiv:2306.00978), and the diagonal of Frantar et al. 2022, "GPTQ" (arXiv:2210.17323), use activations for.
Nagel et al. 2021, "A White Paper on Neural Network Quantization" (arXiv:2106.08295), section 3.1, for the MSE range.
"""

from __future__ import annotations

import numpy as np

from edgec.quantize.weights.groups import Format, Grouped, blocks, quantize, usable

# How much of the min-max range is tried. Eight bits lose more by clipping than they gain, so few are worth trying.
RATIOS = {
    4: tuple(np.linspace(1.0, 0.6, 9)),
    5: tuple(np.linspace(1.0, 0.7, 7)),
    6: tuple(np.linspace(1.0, 0.8, 6)),
    8: (1.0, 0.97, 0.94, 0.9),
}
# Elements looked at together: bounds the memory of the search.
CHUNK = 1 << 20


def minmax(weight: np.ndarray, format: Format) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point (rows, groups) that represent every weight; zero is exact.

    Args:
        weight: float32 (rows, features), finite.
        format: of the integers.
    """
    return _parameters(*_extremes(blocks(weight, format), format), format, 1.0)


def best(
    weight: np.ndarray, format: Format, importance: np.ndarray | None = None, *, half_scales: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point (rows, groups) of the least squared error over the candidates.

    Args:
        weight: float32 (rows, features), finite.
        format: of the integers.
        importance: (features,) or (rows, features), how much each squared error counts; None: all the same.
        half_scales: scales are to be float16 values.
    """
    rows, features = weight.shape
    step = max(1, CHUNK // max(features, 1))
    scales, zeros = [], []
    for first in range(0, rows, step):
        part = weight[first : first + step]
        counts = None
        if importance is not None:
            here = importance if importance.ndim == 1 else importance[first : first + step]
            counts = blocks(np.broadcast_to(here, part.shape).astype(np.float32), format)
        scale, zero = _search(blocks(part, format), counts, format, half_scales)
        scales.append(scale)
        zeros.append(zero)
    return np.concatenate(scales), np.concatenate(zeros)


def nearest(weight: np.ndarray, format: Format, importance: np.ndarray | None = None) -> Grouped:
    """Round to nearest with the best scales: what every other method has to beat. Arguments as in `best`."""
    return quantize(weight, *best(weight, format, importance), format)


def _extremes(grouped: np.ndarray, format: Format) -> tuple[np.ndarray, np.ndarray]:
    low, high = grouped.min(-1), grouped.max(-1)
    if not format.symmetric:
        return np.minimum(low, 0), np.maximum(high, 0)
    return low, high


def _parameters(low: np.ndarray, high: np.ndarray, format: Format, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    if format.symmetric:
        largest = np.maximum(np.abs(low), np.abs(high)).astype(np.float64) * ratio
        return usable(largest / format.high), np.zeros(low.shape, np.int16)
    scale = usable((high.astype(np.float64) - low) * ratio / format.high)
    zero = np.clip(np.rint(-low.astype(np.float64) * ratio / scale), 0, format.high)
    return scale, zero.astype(np.int16)


def _search(
    grouped: np.ndarray, counts: np.ndarray | None, format: Format, half_scales: bool
) -> tuple[np.ndarray, np.ndarray]:
    low, high = _extremes(grouped, format)
    best_scale = best_zero = best_error = None
    for ratio in RATIOS[format.bits]:
        scale, zero = _parameters(low, high, format, ratio)
        scale = _halved(scale) if half_scales else scale
        error = _error(grouped, counts, scale, zero, format)
        if best_scale is None or best_zero is None or best_error is None:
            best_scale, best_zero, best_error = scale, zero, error
            continue
        better = error < best_error
        best_scale, best_zero = np.where(better, scale, best_scale), np.where(better, zero, best_zero)
        best_error = np.where(better, error, best_error)
    assert best_scale is not None and best_zero is not None
    return best_scale, best_zero


def _error(
    grouped: np.ndarray, counts: np.ndarray | None, scale: np.ndarray, zero: np.ndarray, format: Format
) -> np.ndarray:
    """(rows, groups): weighted squared error of rounding to these parameters."""
    wide, offset = scale[..., None], zero[..., None].astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        made = np.clip(np.rint(grouped / wide) + offset, format.low, format.high) - offset
        difference = made * wide - grouped
        squared = np.square(difference, out=difference)
        result: np.ndarray = (squared if counts is None else squared * counts).sum(-1, dtype=np.float64)
    return result


def _halved(scale: np.ndarray) -> np.ndarray:
    """The nearest float16 values, in float32; the smallest normal one instead of less."""
    tiny = np.float32(np.finfo(np.float16).tiny)
    result: np.ndarray = np.clip(scale, tiny, np.float32(65504)).astype(np.float16).astype(np.float32)
    return result
