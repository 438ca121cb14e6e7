"""Two operands with ONNX's broadcasting.

ncnn broadcasts blobs of as many dimensions, and a blob of one dimension along the *outermost* one (ONNX: along the
innermost). So operands are seen with the result's dimensions, or as one dimension where that is the cheaper same.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Blob, Context, held, kept
from edgec_targets.emitters.ncnn.file import Dims
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import array, need, shape

_TYPES = {"Add": 0, "Sub": 1, "Mul": 2, "Div": 3, "Max": 4, "Min": 5, "Sum": 0}
_REVERSED = {1: 7, 3: 8}  # of a constant minus, or over, a blob
_MULTIPLY = 2


@operator("Add", "Sub", "Mul", "Div")
def binary(ctx: Context, node: ir.Node) -> None:
    """One BinaryOp; a constant of one element is its parameter."""
    ctx.put(node.outputs[0], _pair(ctx, node, need(node, 0), need(node, 1), _TYPES[node.op_type]))


@operator("Max", "Min", "Sum", "Mean")
def many(ctx: Context, node: ir.Node) -> None:
    """A chain of BinaryOps; each step has the result's shape."""
    values = [value for value in node.inputs if value is not None]
    kind = _TYPES.get(node.op_type, 0)
    if len(values) == 1:
        result = ctx.standard(values[0])
    else:
        dims = _dims(shape(node.outputs[0]))
        result = _operand(ctx, node, values[0], whole=False)
        for value in values[1:]:
            result = ctx.op("BinaryOp", [result, _operand(ctx, node, value, whole=False)], dims, {0: kind})
    if node.op_type == "Mean":
        result = ctx.op("BinaryOp", [result], result.dims, {0: _MULTIPLY, 1: 1, 2: 1.0 / len(values)})
    ctx.put(node.outputs[0], result)


def _pair(ctx: Context, node: ir.Node, a: ir.Value, b: ir.Value, kind: int) -> Blob:
    dims = _dims(shape(node.outputs[0]))
    for value, constant, order in ((a, b, kind), (b, a, _REVERSED.get(kind, kind))):
        data = array(constant)
        if data is not None and data.size == 1 and array(value) is None and math.prod(shape(value)) == math.prod(dims):
            if data.dtype != np.float32:
                raise Refusal(f"It computes with {data.dtype}; ncnn computes with float32.")
            number = float(data.reshape(()))
            return ctx.op("BinaryOp", [ctx.get(value)], ctx.get(value).dims, {0: order, 1: 1, 2: number})
    if shape(a) == shape(b) and ctx.get(a).dims == ctx.get(b).dims:
        return ctx.op("BinaryOp", [ctx.get(a), ctx.get(b)], ctx.get(a).dims, {0: kind})
    whole = math.prod(dims) in (math.prod(shape(a)), math.prod(shape(b)))
    return ctx.op("BinaryOp", [_operand(ctx, node, v, whole=whole) for v in (a, b)], dims, {0: kind})


def _operand(ctx: Context, node: ir.Node, value: ir.Value, *, whole: bool) -> Blob:
    """A value in the result's dimensions, one where it is broadcast; `whole`: the other operand has them all."""
    target = shape(node.outputs[0])
    full = (1,) * (len(target) - len(shape(value))) + shape(value)
    dims: Dims = tuple(full[axis] for axis in kept(target)) or (1,)
    if math.prod(dims) != math.prod(full):
        raise Refusal(f"It broadcasts {list(full)} to {list(target)}, which has too many dimensions for ncnn.")
    if math.prod(dims) == dims[0] and (whole or len(_dims(target)) == 1):
        dims = dims[:1]  # one number a channel: along the outermost dimension
    data = array(value)
    if data is not None:
        if data.dtype != np.float32:
            raise Refusal(f"It computes with {data.dtype}; ncnn computes with float32.")
        return ctx.constant(data, dims)
    return ctx.view(value, dims)


def _dims(target: Dims) -> Dims:
    """The result's dimensions: one alone where the others are of size one, as pools over whole images leave them."""
    dims = held(target)
    return dims[:1] if math.prod(dims) == dims[0] else dims
