"""What several families need: the fused activation's number, weights in the file's order, requantization."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import rescaling
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Quantization, Tensor
from edgec_targets.emitters.litert.fusion import fused
from edgec_targets.emitters.litert.integers import real, signed
from edgec_targets.emitters.litert.registry import Refusal
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import array, stored

_WIDENED_FROM = 256
"""Elements."""


def activation(node: ir.Node) -> int:
    """`fusedActivationFunction` of a node's options."""
    return int(getattr(schema().ActivationFunctionType, fused(node)))


def weight(
    ctx: Context, value: ir.Value | None, perm: tuple[int, ...], columns: np.ndarray | None = None
) -> Tensor | None:
    """A constant weight with its axes permuted: float, integer, or integers that the engine widens to float at load.

    None where it is computed.
    """
    source = stored(value)
    data = array(source)
    if data is None or source is None:
        return None
    found = ctx.quantities.get(source)
    if source is value or found is None:
        return constant(ctx, data, found, perm, columns)
    return dequantized(ctx, data, found, perm, columns)


def dequantized(
    ctx: Context, data: np.ndarray, found: Quantization, perm: tuple[int, ...], columns: np.ndarray | None = None
) -> Tensor:
    """A quantized constant as float32: widened by the engine at load, so that the file stays small.

    Not int32, which DEQUANTIZE doesn't take, nor what is small anyway.
    """
    if data.dtype != np.int32 and data.size >= _WIDENED_FROM:
        return ctx.widened(constant(ctx, data, found, perm, columns))
    return ctx.file.constant(_ordered(real(data, found).transpose(perm), columns))


def _ordered(data: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    return data if columns is None else data[..., columns]


def constant(
    ctx: Context,
    data: np.ndarray,
    quantization: Quantization | None,
    perm: tuple[int, ...],
    columns: np.ndarray | None = None,
) -> Tensor:
    """A constant with its axes permuted, and the axis of its scales with them; then its last axis in another order."""
    if quantization is None:
        return ctx.constant(_ordered(data.transpose(perm), columns))
    axis = perm.index(quantization.axis) if len(quantization.scale) > 1 else 0
    found = Quantization(quantization.scale, quantization.zero_point, axis)
    return ctx.file.constant(_ordered(signed(data).transpose(perm), columns), found)


def reshaped(tensor: Tensor, ctx: Context, dims: tuple[int, ...], axis: int | None = None) -> Tensor:
    """A constant in another shape; `axis` is where its scales are then."""
    assert tensor.data is not None
    found = tensor.quantization
    if found is not None and axis is not None and len(found.scale) > 1:
        found = Quantization(found.scale, found.zero_point, axis)
    return ctx.file.constant(tensor.data.reshape(dims), found)


def bias(ctx: Context, value: ir.Value | None, channels: int, x: Tensor, w: Tensor) -> Tensor:
    """A layer's bias, zeros where it has none. For integers: int32 of scale s_x · s_w, verbatim if it is so already.

    Beside 16-bit inputs it is int64, as those kernels sum.
    """
    data = None if value is None else array(value)
    if x.quantization is None or w.quantization is None or x.dtype not in ("int8", "int16"):
        if data is not None:
            return ctx.file.constant(np.broadcast_to(data.astype(np.float32).reshape(-1), (channels,)))
        widened = weight(ctx, value, (0,)) if value is not None else None
        if value is not None and widened is None:
            return ctx.get(value)
        return widened or ctx.file.constant(np.zeros(channels, np.float32))
    scale = np.float32(x.quantization.scale[0]) * np.array(w.quantization.scale, np.float32)
    own = Quantization(tuple(float(s) for s in scale), (0,) * len(scale), 0)
    kind = np.int32 if x.dtype == "int8" else np.int64
    if value is None:
        return ctx.file.constant(np.zeros(channels, kind), own)
    if data is None:
        raise Refusal(f"Its bias ('{value.name}') is computed by the model, between integers.")
    stated = ctx.quantities.get(value)
    exact = data.astype(np.float64).reshape(-1)
    if stated is not None:
        if np.allclose(np.broadcast_to(stated.scale, scale.shape), scale, rtol=1e-5, atol=0):
            return ctx.file.constant(np.broadcast_to(data.reshape(-1), (channels,)).astype(kind), own)
        exact = exact * np.asarray(stated.scale, np.float64)
    whole = np.rint(np.broadcast_to(exact, (channels,)) / scale.astype(np.float64))
    limits = np.iinfo(np.int32)
    return ctx.file.constant(np.clip(whole, limits.min, limits.max).astype(kind), own)


def requantized(ctx: Context, tensor: Tensor, quantization: Quantization | None) -> Tensor:
    """The same real numbers by another scale and zero point; the tensor itself where they are the same."""
    if quantization is None or tensor.quantization is None or tensor.quantization == quantization:
        return tensor
    if quantization.bits == 16:
        return ctx.op("QUANTIZE", [tensor], tensor.shape, "QuantizeOptions", quantization=quantization)
    if tensor.data is not None:
        table = rescaling.answers(tensor.quantization, quantization)
        return ctx.file.constant(table[tensor.data.astype(np.int16) + 128], quantization)
    return rescaling.rescale(ctx.file, tensor, quantization)
