"""How much of a value's outliers moves into the weights: one factor a channel, chosen on samples of the value.

Xiao et al. 2022, "SmoothQuant" (arXiv:2211.10438): X W = (X / s)(s W), s = max|X|^α / max|W|^(1 − α). Two things are
taken from the arithmetic instead of from max|X|: with one scale for all of u8's 256 steps the noise that activations
bring to the result is Δ² Σ s²‖W‖², which for given ends h + l = 1 of the range is least where s is the larger of
max(X)/h and −min(X)/l; and the split h : l, like α, is found by trying.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.data.metrics import ratio_db
from edgec.quantize.arithmetic import activation_parameters, quantize, quantize_weight
from edgec.quantize.scheme import Scheme

ALPHAS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# A channel narrower than a step of the widest was nothing but noise: there is no knowing how wide it may get.
NARROWEST = 1 / 256
SPLITS = np.linspace(0.02, 0.98, 49)


@dataclass(frozen=True)
class Sample:
    """What is known of a value with channels on its last axis.

    Attributes:
        low: (channels,) smallest, over all samples.
        high: (channels,) largest.
        rows: float32 (n, channels), some of its rows.
    """

    low: np.ndarray
    high: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class Choice:
    """The factors that leave the least error.

    Attributes:
        scale: float32 (channels,): the value is divided by it, the weights are multiplied.
        alpha: how far towards even channels.
        before: SQNR of the layers' results on the sample with plain int8, dB.
        after: the same with the factors.
    """

    scale: np.ndarray
    alpha: float
    before: float
    after: float


def choose(sample: Sample, weight: np.ndarray, scheme: Scheme, alphas: Sequence[float] = ALPHAS) -> Choice | None:
    """The best factors for all layers that read a value; None where none are better than none.

    Args:
        sample: of the value.
        weight: float32 (channels, results of all its layers).
        scheme: their number formats.
        alphas: to try.
    """
    if not (np.isfinite(sample.low).all() and np.isfinite(sample.high).all() and len(sample.rows)):
        return None
    if not np.isfinite(weight).all() or not np.isfinite(sample.rows).all():
        return None
    target = sample.rows @ weight
    energy = float(np.square(target, dtype=np.float64).sum())
    ones = np.ones(len(weight), np.float32)
    plain = _error(sample, weight, ones, target, scheme)
    even, importance = _even(sample, weight, scheme), np.abs(weight).max(1).astype(np.float64)
    if even is None or energy == 0:
        return None
    importance = np.maximum(importance, importance.max(initial=0) * 1e-4)
    best: tuple[float, float, np.ndarray] | None = None
    for alpha in alphas:
        scale = even**alpha / importance ** (1 - alpha)
        scale = (scale / np.exp(np.log(scale).mean())).astype(np.float32)
        error = _error(sample, weight, scale, target, scheme)
        if best is None or error < best[0]:
            best = error, alpha, scale
    if best is None or best[0] >= plain:
        return None
    return Choice(best[2], best[1], ratio_db(energy, plain), ratio_db(energy, best[0]))


def _even(sample: Sample, weight: np.ndarray, scheme: Scheme) -> np.ndarray | None:
    """float64 factors after which all channels use the range alike; 1 for those that never vary; None: all are so."""
    low, high = np.minimum(sample.low, 0).astype(np.float64), np.maximum(sample.high, 0).astype(np.float64)
    energy = np.square(weight, dtype=np.float64).sum(1)
    best: tuple[float, np.ndarray] | None = None
    for split in (0.5,) if scheme.symmetric_activation else SPLITS:
        scale = np.maximum(high / split, -low / (1 - split))
        noise = float((scale**2 * energy).sum())
        if best is None or noise < best[0]:
            best = noise, scale
    assert best is not None
    scale = best[1]
    if scale.max(initial=0) <= 0:
        return None
    alive = scale > scale.max() * NARROWEST
    return np.where(alive, scale, np.median(scale[alive]))


def _error(sample: Sample, weight: np.ndarray, scale: np.ndarray, target: np.ndarray, scheme: Scheme) -> float:
    """Squared error of the results on the sample with value and weights rounded."""
    low, high = sample.low / scale, sample.high / scale
    affine = activation_parameters(float(low.min()), float(high.max()), scheme)
    limits = np.iinfo(affine.dtype)
    integers = quantize(sample.rows / scale, affine.scale, affine.zero_point, limits.min, limits.max)
    rounded = quantize_weight(weight * scale[:, None], axis=1 if scheme.per_channel else None, qmax=scheme.weight_max)
    made = (integers - affine.zero_point).astype(np.float32) @ rounded.data.astype(np.float32)
    return float(np.square(made * (np.float32(affine.scale) * rounded.scale) - target, dtype=np.float64).sum())
