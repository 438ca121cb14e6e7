"""Operators of two inputs, element by element with broadcasting."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import exact
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.ops.common import activation
from edgec_targets.emitters.litert.ops.logic import cast_to
from edgec_targets.emitters.litert.registry import Refusal, Tied, operator
from edgec_targets.emitters.litert.values import array, integer

_CODES = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV"}
_INTEGERS = ("int32", "int64")


def _two_data(node: ir.Node) -> bool:
    return len(node.inputs) == 2


@operator("Add", "Sub", "Mul", layout=Tied(), integer=_two_data)
def arithmetic(ctx: Context, node: ir.Node) -> None:
    """ADD, SUB, MUL with the activation that follows; on integers where that is exact, else in float32 between them."""
    a, b = ctx.tied(node, 0), ctx.tied(node, 1)
    out = ctx.result(node, ctx.perm(node))
    if out.quantization is None and out.dtype in ("int8", "uint8"):
        raise Refusal("It computes with 8-bit integers that have no scale.")
    code, fused = _CODES[node.op_type], activation(node)
    if out.quantization is None:
        ctx.broadcast(code, a, b, out, fusedActivationFunction=fused)
        return
    assert a.quantization is not None and b.quantization is not None
    if out.quantization.bits == 16:
        fields = {} if code == "MUL" else {"potScaleInt16": False}
        ctx.broadcast(code, a, b, out, fusedActivationFunction=fused, **fields)
        return
    direct, differing = exact.in_integers(
        code, a.quantization, b.quantization, out.quantization, fused, exact=ctx.exact
    )
    if differing:
        ctx.note(
            node, f"{code} of integers: {differing} of 65,536 pairs come out one step beside ONNX Runtime's answer"
        )
    exact.operate(ctx.file, code, [a, b], out, fused, not direct)


@operator("Div", layout=Tied())
def divide(ctx: Context, node: ir.Node) -> None:
    """DIV; by a constant that is a power of two it is a MUL, which is exact and quicker."""
    a, out = ctx.tied(node, 0), ctx.dtype(node.outputs[0])
    if out not in ("float32", "int32"):
        raise Refusal(f"TFLite has no division of {out}.")
    divisor = array(node.inputs[1])
    if divisor is not None and out == "float32" and np.all(np.frexp(divisor)[0] == 0.5):
        b = ctx.constant(ctx.fit((1 / divisor).astype(np.float32), ctx.perm(node)))
        ctx.broadcast("MUL", a, b, ctx.result(node, ctx.perm(node)), fusedActivationFunction=activation(node))
        return
    ctx.broadcast(
        "DIV", a, ctx.tied(node, 1), ctx.result(node, ctx.perm(node)), fusedActivationFunction=activation(node)
    )


@operator("Sum", "Max", "Min", "Mean", layout=Tied())
def several(ctx: Context, node: ir.Node) -> None:
    """Two at a time, from the left."""
    code = {"Sum": "ADD", "Mean": "ADD", "Max": "MAXIMUM", "Min": "MINIMUM"}[node.op_type]
    tensors = [ctx.tied(node, i) for i in range(len(node.inputs))]
    if node.op_type == "Mean":
        total = functools.reduce(lambda a, b: ctx.broadcast(code, a, b), tensors)
        ctx.broadcast("MUL", total, ctx.scalar(1 / len(tensors)), ctx.result(node, ctx.perm(node)))
        return
    out = ctx.result(node, ctx.perm(node))
    if len(tensors) == 1:
        ctx.reshape(tensors[0], tensors[0].shape, out)
        return
    first = functools.reduce(lambda a, b: ctx.broadcast(code, a, b), tensors[:-1])
    ctx.broadcast(code, first, tensors[-1], out)


@operator("Pow", layout=Tied())
def power(ctx: Context, node: ir.Node) -> None:
    """Squares, cubes and roots as what they are, else POW."""
    x, out = ctx.tied(node, 0), ctx.result(node, ctx.perm(node))
    exponent = array(node.inputs[1])
    value = float(exponent.reshape(())) if exponent is not None and exponent.size == 1 else None
    grown = exponent is not None and exponent.size == 1
    if value == 2 and grown and out.dtype == "float32":
        ctx.unary("SQUARE", x, out, "SquareOptions")
    elif value == 3 and grown:
        ctx.broadcast("MUL", ctx.broadcast("MUL", x, x), x, out)
    elif value == 0.5 and grown and out.dtype == "float32":
        ctx.unary("SQRT", x, out)
    elif value == -0.5 and grown and out.dtype == "float32":
        ctx.unary("RSQRT", x, out)
    elif out.dtype not in ("float32", "int32"):
        raise Refusal(f"TFLite has no powers of {out.dtype}.")
    else:
        ctx.broadcast("POW", x, cast_to(ctx, ctx.tied(node, 1), out.dtype), out)


@operator("Mod", layout=Tied())
def modulo(ctx: Context, node: ir.Node) -> None:
    """FLOOR_MOD: the sign of the divisor, as Mod with fmod = 0."""
    if ctx.dtype(node.outputs[0]) not in ("int32", "int64", "float32"):
        raise Refusal("TFLite's FLOOR_MOD doesn't take its type.")
    if integer(node, "fmod", 0):
        raise Refusal("fmod = 1 takes the sign of the dividend; TFLite's FLOOR_MOD that of the divisor.")
    ctx.broadcast("FLOOR_MOD", ctx.tied(node, 0), ctx.tied(node, 1), ctx.result(node, ctx.perm(node)))
