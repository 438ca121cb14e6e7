"""Gemm and MatMul: FULLY_CONNECTED where one side is a constant matrix, else BATCH_MATMUL."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import dynamic
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops import whole
from edgec_targets.emitters.litert.ops.common import activation, bias, constant, weight
from edgec_targets.emitters.litert.ops.products import columns, fully_connected
from edgec_targets.emitters.litert.registry import Fixed, Layout, Refusal, Tied, identity, operator
from edgec_targets.emitters.litert.values import array, given, integer, number, rank, shape, stored


def _matrix(value: ir.Value | None) -> np.ndarray | None:
    """A constant matrix, dequantized or not; None for anything else."""
    data = array(stored(value))
    return data if data is not None and data.ndim == 2 else None


def _gemm_integer(node: ir.Node) -> bool:
    plain = number(node, "alpha", 1.0) == 1 and (number(node, "beta", 1.0) == 1 or given(node, 2) is None)
    return plain and not integer(node, "transA", 0) and _matrix(node.inputs[1]) is not None


def _matmul_integer(node: ir.Node) -> bool:
    return all(v is not None and v.shape is not None and len(v.shape) >= 2 for v in node.inputs)


@operator("Gemm", integer=_gemm_integer)
def gemm(ctx: Context, node: ir.Node) -> None:
    """alpha · A · B + beta · C. Weights O I as they are, or transposed at compile time."""
    alpha, beta = number(node, "alpha", 1.0), number(node, "beta", 1.0)
    if _gemm_integer(node) and whole.products(ctx, node, (0, 1) if integer(node, "transB", 0) else (1, 0), (0, 1)):
        return
    x, c = ctx.get(_source(ctx, node)), given(node, 2)
    if integer(node, "transA", 0):
        x = ctx.transpose(x, (1, 0))
    perm = (0, 1) if integer(node, "transB", 0) else (1, 0)
    w = _weight(ctx, node, perm)
    out = ctx.result(node)
    if w is None:
        w = ctx.transpose(ctx.input(node, 1), perm) if perm != (0, 1) else ctx.input(node, 1)
    channels = w.shape[0]
    size = 1 if c is None else int(np.prod(shape(c)))
    fits = c is None or (stored(c) is not None and size in (1, channels) and alpha == beta == 1)
    if fits:
        b = bias(ctx, c, channels, x, w)
        fully_connected(ctx, x, w, b, out, activation(node))
        return
    product = fully_connected(ctx, x, w, None, None, 0)
    if alpha != 1:
        product = ctx.broadcast("MUL", product, ctx.scalar(alpha))
    added = ctx.input(node, 2)
    if beta != 1:
        added = ctx.broadcast("MUL", added, ctx.scalar(beta))
    ctx.broadcast("ADD", product, added, out, fusedActivationFunction=activation(node))


def _source(ctx: Context, node: ir.Node) -> ir.Value | None:
    """What a product reads: without its Q/DQ where the kernel quantizes by itself."""
    value = node.inputs[0]
    return dynamic.before_quantization(value) if ctx.dynamic and dynamic.eligible(node) and value is not None else value


def _weight(ctx: Context, node: ir.Node, perm: tuple[int, ...]) -> Tensor | None:
    """The matrix, out × in: int8 beside a float input where the kernel quantizes that by itself."""
    source = stored(node.inputs[1])
    data, order = array(source), columns(ctx, node)
    if ctx.dynamic and dynamic.eligible(node) and data is not None and source is not None:
        found = ctx.quantities.get(source)
        if found is not None and not any(found.zero_point):
            ctx.note(node, "FULLY_CONNECTED of floats by integers: the engine quantizes its input row by row")
            return constant(ctx, data, found, perm, order)
    return weight(ctx, node.inputs[1], perm, order)


def _matmul_layout(node: ir.Node) -> Layout:
    """By a constant matrix: any layout whose last axis stays last. Else each operand may come transposed."""
    a, b = rank(node.inputs[0]), rank(node.inputs[1])
    if a >= 2 and _matrix(node.inputs[1]) is not None:
        return Tied(last=a - 1)
    return Fixed({n: _transposable(r) for n, r in enumerate((a, b)) if r >= 2}, {})


def _transposable(rank: int) -> tuple[tuple[int, ...], ...]:
    plain = identity(rank)
    return plain, (*plain[:-2], rank - 1, rank - 2)


@operator("MatMul", layout=_matmul_layout, integer=_matmul_integer)
def matmul(ctx: Context, node: ir.Node) -> None:
    """A · B; batch axes broadcast."""
    a_value, b_value = node.inputs[0], node.inputs[1]
    if ctx.quantized(a_value) != ctx.quantized(b_value):
        raise Refusal("One of its inputs is quantized, the other is not.")
    a_rank, b_rank = rank(a_value), rank(b_value)
    if _matrix(b_value) is not None and a_rank >= 2:
        if whole.products(ctx, node, (1, 0), ctx.perm(node)):
            return
        w = _weight(ctx, node, (1, 0))
        assert w is not None
        x = ctx.get(_source(ctx, node), ctx.perm(node)) if ctx.dynamic else ctx.tied(node, 0)
        out = ctx.result(node, ctx.perm(node))
        b = bias(ctx, None, w.shape[0], x, w)
        fully_connected(ctx, x, w, b, out, activation(node), keep=len(x.shape) > 2)
        return
    a, adj_x = _operand(ctx, node, 0)
    b, adj_y = _operand(ctx, node, 1)
    out = ctx.result(node)
    if a_rank == 1:
        a = ctx.reshape(a, (1, *a.shape))
    if b_rank == 1:
        b = ctx.reshape(b, (*b.shape, 1))
    longest = max(len(a.shape), len(b.shape))
    if longest > _AXES:
        raise Refusal(f"It multiplies matrices stacked along {longest - 2} axes; TFLite takes {_AXES - 2}.")
    rows, columns = a.shape[-1 if adj_x else -2], b.shape[-2 if adj_y else -1]
    dims = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), rows, columns)
    direct = dims == out.shape
    made = ctx.op(
        "BATCH_MATMUL",
        [a, b],
        dims,
        "BatchMatMulOptions",
        out=out if direct else None,
        quantization=out.quantization,
        adjX=adj_x,
        adjY=adj_y,
    )
    if not direct:
        ctx.reshape(made, out.shape, out)


_AXES = 5


def _operand(ctx: Context, node: ir.Node, index: int) -> tuple[Tensor, bool]:
    """An operand as it lies, and whether its last two axes are exchanged."""
    value = node.inputs[index]
    perm = ctx.layouts.inputs.get((node, index))
    if value is None or perm is None:
        found = weight(ctx, value, identity(rank(value)))
        return (found if found is not None else ctx.get(value)), False
    return ctx.get(value, perm), perm != identity(len(perm))
