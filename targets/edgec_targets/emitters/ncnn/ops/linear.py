"""Matrix products."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Context
from edgec_targets.emitters.ncnn.ops.convolution import product
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import array, integer, need, optional_weights, real, shape, weights


@operator("MatMul")
def matmul(ctx: Context, node: ir.Node) -> None:
    """InnerProduct with a constant matrix; MatMul of two blobs."""
    a, b = need(node, 0), need(node, 1)
    if array(b) is not None and len(shape(b)) == 2:
        matrix = weights(node, 1, "weights").T
        rows = math.prod(shape(a)[:-1])
        x = ctx.view(a, (rows, shape(a)[-1]) if rows > 1 else (shape(a)[-1],))
        ctx.put(node.outputs[0], product(ctx, x, np.ascontiguousarray(matrix), None))
        return
    if min(len(shape(a)), len(shape(b))) < 2:
        raise Refusal("It multiplies a vector; only matrices are written.")
    batch = shape(node.outputs[0])[:-2]
    (*left, m, k), (*right, _, n) = shape(a), shape(b)
    size = math.prod(batch)
    if not math.prod(left) == math.prod(right) == size:
        raise Refusal(f"It broadcasts batches: {list(shape(a))} times {list(shape(b))}.")
    outer = () if size == 1 else (size,)
    both = [ctx.view(a, (*outer, m, k)), ctx.view(b, (*outer, k, n))]
    ctx.put(node.outputs[0], ctx.op("MatMul", both, (*outer, m, n)))


@operator("Gemm")
def gemm(ctx: Context, node: ir.Node) -> None:
    """InnerProduct: alpha and beta are folded into weights and bias."""
    a = need(node, 0)
    if integer(node, "transA"):
        raise Refusal("It transposes its first operand.")
    matrix = weights(node, 1, "weights")
    matrix = matrix if integer(node, "transB") else matrix.T
    bias = optional_weights(node, 2, "bias")
    alpha, beta = real(node, "alpha", 1.0), real(node, "beta", 1.0)
    if alpha != 1.0:
        matrix = matrix * np.float32(alpha)
    units = matrix.shape[0]
    if bias is not None:
        if bias.size not in (1, units) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
            raise Refusal(f"Its bias has the shape {list(bias.shape)}: neither one number nor one a column.")
        bias = np.broadcast_to(bias.ravel() * np.float32(beta), (units,))
    rows, columns = shape(a)
    x = ctx.view(a, (rows, columns) if rows > 1 else (columns,))
    ctx.put(node.outputs[0], product(ctx, x, np.ascontiguousarray(matrix), bias))
