"""An integer product with a float result, equal to ONNX Runtime's: float32 counts in whole numbers.

ONNX Runtime sums the integers in int32 and multiplies the sum by s_x · s_w. TFLite has no such kernel; but float32 adds
whole numbers exactly up to 2^24, so FULLY_CONNECTED of the integers as floats gives the same sum, and one MUL the same
result to the bit. Zero points and the bias, both whole, are in the bias. (255 · 127 · 518 is the longest sum that can't
exceed 2^24; real ones stay far below, and beyond it float32 rounds as it always does.)

A large matrix stays int8. FULLY_CONNECTED of floats by int8 weights quantizes each row of its input by the row's own
range; two elements more, −128 and 127 by weights of zero, make that range the integers' own: scale 1, zero point 0.
So it multiplies the very integers, by a quarter of the bytes to read and dot products where there are any.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import dynamic
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Quantization, Tensor
from edgec_targets.emitters.litert.ops.common import activation, constant
from edgec_targets.emitters.litert.ops.products import columns, fully_connected, unflattened
from edgec_targets.emitters.litert.registry import Perm
from edgec_targets.emitters.litert.values import array, given, stored

_LARGE = 1 << 16
"""Elements: from here on reading a matrix as float32 costs more than two elements more in a row."""


def products(ctx: Context, node: ir.Node, perm: Perm, layout: Perm) -> bool:
    """Write Gemm or MatMul so, with weights permuted by `perm` to out × in and the input in `layout`.

    False, and nothing written, where the node isn't a product of quantized inputs by quantized weights with a float
    result, or is the model's work (`dynamic`).
    """
    if ctx.dynamic or not dynamic.eligible(node):
        return False
    value, source = _integers(node.inputs[0]), stored(node.inputs[1])
    data = array(source)
    if value is None or source is None or data is None:
        return False
    of_x, of_w = ctx.quantities.get(value), ctx.quantities.get(source)
    if of_x is None or of_w is None or len(of_x.scale) != 1 or any(of_w.zero_point) or of_x.bits != 8:
        return False
    matrix = data.transpose(perm).astype(np.int64)
    scale = np.float32(of_x.scale[0]) * np.array(of_w.scale, np.float32)
    bias = _bias(ctx, given(node, 2) if node.op_type == "Gemm" else None, scale, len(matrix))
    if bias is None:
        return False
    x = ctx.get(value, layout)
    x = unflattened(ctx, x) if len(x.shape) <= 2 else x
    x = ctx.op("CAST", [x], x.shape, "CastOptions", dtype="float32")
    plain, order = Quantization((1.0,), (0,), 0), columns(ctx, node)
    if data.size < _LARGE:
        w = ctx.widened(constant(ctx, data, plain, perm, order))
    else:
        x, w = _ranged(ctx, x), _widened(ctx, data.transpose(perm) if order is None else data.transpose(perm)[:, order])
    b = ctx.file.constant((bias - of_x.zero_point[0] * matrix.sum(1)).astype(np.float32))
    total = fully_connected(ctx, x, w, b, None, 0, keep=len(layout) > 2)
    factor = ctx.file.constant(np.broadcast_to(scale, (len(matrix),)).copy())
    fused = activation(node)
    ctx.broadcast("MUL", total, factor, ctx.result(node, layout), fusedActivationFunction=fused)
    return True


def _ranged(ctx: Context, x: Tensor) -> Tensor:
    """Integers as floats, each row with the two elements that make its range theirs."""
    ends = np.broadcast_to(np.array([-128, 127], np.float32), (*x.shape[:-1], 2))
    dims = (*x.shape[:-1], x.shape[-1] + 2)
    return ctx.op("CONCATENATION", [x, ctx.file.constant(ends)], dims, "ConcatenationOptions", axis=len(dims) - 1)


def _widened(ctx: Context, matrix: np.ndarray) -> Tensor:
    """An int8 matrix, out × in, with two columns of zeros for those elements."""
    rows = len(matrix)
    grown = np.concatenate([matrix, np.zeros((rows, 2), np.int8)], 1)
    return ctx.file.constant(grown, Quantization((1.0,) * rows, (0,) * rows, 0))


def _integers(value: ir.Value | None) -> ir.Value | None:
    """What a DequantizeLinear reads that makes the value."""
    producer = value.producer() if value is not None else None
    return producer.inputs[0] if producer is not None and producer.op_type == "DequantizeLinear" else None


def _bias(ctx: Context, value: ir.Value | None, scale: np.ndarray, channels: int) -> np.ndarray | None:
    """The bias in whole steps of s_x · s_w: zeros where there is none, None where it is anything else."""
    if value is None:
        return np.zeros(channels, np.int64)
    source = stored(value)
    data, found = array(source), ctx.quantities.get(source) if source is not None else None
    if data is None or found is None or data.dtype != np.int32 or data.size != channels:
        return None
    if not np.allclose(np.broadcast_to(found.scale, scale.shape), scale, rtol=1e-5, atol=0):
        return None
    return data.reshape(-1).astype(np.int64)
