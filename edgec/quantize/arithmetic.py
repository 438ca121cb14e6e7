"""The arithmetic of affine quantization: q = clamp(round_half_even(x / scale) + zero point), per ONNX QuantizeLinear.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(arXiv:1712.05877), sections 2.1–2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.quantize.scheme import Scheme

# The smallest normal float32: a scale below it would be flushed to zero by some engines.
TINY = float(np.finfo(np.float32).tiny)
_LARGE = float(np.finfo(np.float32).max) / 2
# Biases are kept below 2^30, so that accumulator + bias stays in int32 (2^30 of head room for the products).
BIAS_LIMIT = 2**30
# The largest float bias that fits whatever the activation's scale is: raising the weight's scale for it stays finite.
BIAS_LARGEST = 1e9


@dataclass(frozen=True)
class Affine:
    """Scale (float32 value) and zero point of one tensor: x ≈ scale · (q − zero_point)."""

    scale: float
    zero_point: int
    dtype: np.dtype[Any]

    @property
    def low(self) -> float:
        """The smallest value that can be represented."""
        return self.scale * (int(np.iinfo(self.dtype).min) - self.zero_point)

    @property
    def high(self) -> float:
        """The largest value that can be represented."""
        return self.scale * (int(np.iinfo(self.dtype).max) - self.zero_point)


def activation_parameters(low: float, high: float, scheme: Scheme) -> Affine:
    """Scale and zero point for values in [low, high]; zero is always represented exactly.

    The range is first widened to include zero (padding, ReLU). A range of [0, 0] (a dead ReLU) gets scale 1.

    Args:
        low: finite.
        high: finite, ≥ low.
        scheme: activation type and symmetry.
    """
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    dtype = np.dtype(scheme.activation)
    qmin, qmax = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if scheme.symmetric_activation:
        middle = (qmin + qmax + 1) // 2
        scale = _scale(max(-low, high) / (qmax - middle))
        return Affine(scale, middle, dtype)
    scale = _scale((high - low) / (qmax - qmin))
    zero_point = int(np.clip(np.rint(qmin - low / scale), qmin, qmax))
    return Affine(scale, zero_point, dtype)


def quantize(x: np.ndarray, scale: np.ndarray | float, zero_point: int, qmin: int, qmax: int) -> np.ndarray:
    """Round half to even and saturate, in float32 like the ONNX operator; returns int64.

    Args:
        x: float32 array.
        scale: positive, broadcastable to x.
        zero_point: of the integer type.
        qmin: smallest integer.
        qmax: largest integer.
    """
    # x / scale may overflow float32 to infinity, which saturates as it should.
    with np.errstate(over="ignore"):
        scaled = np.rint(np.asarray(x, np.float32) / np.asarray(scale, np.float32))
    return np.asarray(np.clip(scaled.astype(np.float64) + zero_point, qmin, qmax), np.int64)


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weight, its scales, and the integer bias that belongs to them.

    Attributes:
        data: int8, the shape of the float weight.
        scale: float32, shape () per tensor or (channels,).
        axis: the channels' axis; None per tensor.
        bias: int32 of shape (output channels,), its scale is `bias_scale`; None without bias.
        bias_scale: float32, () or (output channels,): activation scale · weight scale.
    """

    data: np.ndarray
    scale: np.ndarray
    axis: int | None
    bias: np.ndarray | None = None
    bias_scale: np.ndarray | None = None


def quantize_weight(
    weight: np.ndarray,
    *,
    axis: int | None,
    qmax: int = 127,
    bias: np.ndarray | None = None,
    activation_scale: float = 1.0,
) -> QuantizedWeight:
    """Quantize a weight symmetrically, and its bias to int32 with scale = activation_scale · weight scale.

    Where a channel's weights are so small (or all zero: dead) that its bias would not fit, the channel's scale is
    raised until it does: the bias is then exact to 2⁻³⁰ of itself, and such weights matter as little as they are small.

    Activations of 16 bits meet this sooner: their scale is 256 times as small.

    Args:
        weight: float32, finite.
        axis: output channels' axis; None for one scale for all.
        qmax: 127, or 63 for 7-bit weights.
        bias: float32 (output channels,) of at most ±`BIAS_LARGEST`, or None.
        activation_scale: the input's scale.
    """
    weight = np.asarray(weight, np.float32)
    if axis is None:
        largest = np.abs(weight).max(initial=0.0)
    else:
        largest = np.abs(weight).max(axis=tuple(i for i in range(weight.ndim) if i != axis), initial=0.0)
    scale = np.asarray(largest, np.float64) / qmax
    if bias is not None:
        magnitude = np.abs(bias.astype(np.float64)) / (activation_scale * BIAS_LIMIT)
        if axis is None:
            magnitude = magnitude.max(initial=0.0)
        scale = np.maximum(scale, magnitude)
    # The product with the activation's scale must be a normal float32 too; all-zero channels get 1.
    floor = TINY * 2 / min(activation_scale, 1.0)
    ceiling = _LARGE / max(activation_scale, 1.0)
    scale = np.where(scale > 0, np.clip(scale, floor, ceiling), 1.0).astype(np.float32)
    spread = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    data = quantize(weight, spread, 0, -qmax, qmax).astype(np.int8)
    if bias is None:
        return QuantizedWeight(data, scale, axis)
    bias_scale = (np.float32(activation_scale) * scale).astype(np.float32)
    steps = np.rint(bias.astype(np.float64) / bias_scale.astype(np.float64))
    return QuantizedWeight(data, scale, axis, np.clip(steps, -(2**31), 2**31 - 1).astype(np.int32), bias_scale)


def _scale(step: float) -> float:
    """A usable float32 scale: 1 for an empty range, never subnormal."""
    value = float(np.float32(step))
    return 1.0 if value == 0 else max(value, TINY)
