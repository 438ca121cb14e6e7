"""Integers in groups that keep a layer's *result*, not each weight: GPTQ, and the scales solved again after it.

Frantar et al. 2022, "GPTQ" (arXiv:2210.17323): features are rounded one after the other, those that vary most first,
and each one's error is taken up by the ones still to be rounded, as H = XᵀX tells. The scales of the groups are fixed
beforehand (the paper's code calls it static groups), so that the order is free. With the integers found, each row's
scales are the solution of a small system of normal equations towards the float model's result, the same target as that
of the weights (Li et al. 2025, "GPTAQ", arXiv:2504.02692).
"""

from __future__ import annotations

import numpy as np

from edgec.quantize.corrections.factor import inverse_factor
from edgec.quantize.weights.groups import Format, Grouped, spread, usable

# Relative to the mean of H's diagonal: keeps features that vary little from being blown up by the others' errors.
DAMPING = 0.01
# Features rounded before their errors are spread over all later ones.
BLOCK = 64


def round_in_turn(
    weight: np.ndarray, scale: np.ndarray, zero: np.ndarray, format: Format, xx: np.ndarray, *, damping: float = DAMPING
) -> Grouped:
    """GPTQ for one matrix.

    Args:
        weight: float (rows, features).
        scale: float32 (rows, groups).
        zero: integers (rows, groups).
        format: of the integers.
        xx: float64 (features, features), second moments of the input.
        damping: see `DAMPING`.

    Raises:
        numpy.linalg.LinAlgError: float64 can't factorise H.
    """
    features = weight.shape[1]
    damped = damped_moments(xx, damping)
    order = np.argsort(-np.diagonal(damped), kind="stable")
    upper = inverse_factor(damped[None][:, order[:, None], order])[0]
    width = format.width(features)
    wide = np.broadcast_to(spread(scale, width, features), weight.shape)[:, order].astype(np.float64)
    offset = np.broadcast_to(spread(zero, width, features), weight.shape)[:, order].astype(np.float64)
    work = weight[:, order].astype(np.float64)
    integers = np.zeros(weight.shape, np.int16)
    for first in range(0, features, BLOCK):
        last = min(first + BLOCK, features)
        errors = np.zeros((len(work), last - first))
        for i in range(first, last):
            rounded = np.clip(np.rint(work[:, i] / wide[:, i]) + offset[:, i], format.low, format.high)
            integers[:, order[i]] = rounded
            error = (work[:, i] - (rounded - offset[:, i]) * wide[:, i]) / upper[i, i]
            work[:, i + 1 : last] -= error[:, None] * upper[i, i + 1 : last]
            errors[:, i - first] = error
        work[:, last:] -= errors @ upper[first:last, last:]
    return Grouped(format, integers, scale, np.asarray(zero, np.int16))


def refit_scales(made: Grouped, xx: np.ndarray, yx: np.ndarray, *, damping: float = DAMPING) -> Grouped:
    """The scales that bring the result nearest to the target with these integers; those that would turn over stay.

    Args:
        made: integers and scales.
        xx: float64 (features, features), second moments of the input.
        yx: float64 (rows, features), moments of the wanted result and the input.
        damping: draws the weights to those of the scales as they are, so that a group that hardly varies stays.
    """
    rows, features = made.integers.shape
    count, width = made.format.groups(features), made.format.width(features)
    steps = (made.integers - spread(made.zero, width, features)).astype(np.float64)
    damped = damped_moments(xx, damping)
    target = yx + made.dequantized().astype(np.float64) @ (damped - xx)
    starts = np.arange(count) * width
    right = np.add.reduceat(steps * target, starts, axis=1)
    left = np.empty((rows, count, count))
    for k, start in enumerate(starts):
        stop = min(start + width, features)
        left[:, k] = np.add.reduceat((steps[:, start:stop] @ damped[start:stop]) * steps, starts, axis=1)
    index = np.arange(count)
    empty = left[:, index, index] <= 0
    left[:, index, index] += np.where(empty, 1.0, 1e-9 * left[:, index, index])
    right = np.where(empty, made.scale, right)
    fitted = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    sane = (fitted > 0.5 * made.scale) & (fitted < 2 * made.scale)
    keep = sane.all(1, keepdims=True)
    return Grouped(made.format, made.integers, usable(np.where(keep, fitted, made.scale)), made.zero)


def damped_moments(xx: np.ndarray, damping: float) -> np.ndarray:
    """H + λI; features that are always zero get the mean, so that they neither move nor break the factorisation."""
    diagonal = np.diagonal(xx)
    mean = float(diagonal.mean())
    extra = np.where(diagonal <= 1e-12 * mean, mean if mean > 0 else 1.0, damping * mean)
    return np.asarray(xx + np.diag(extra))
