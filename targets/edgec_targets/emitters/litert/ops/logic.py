"""Comparisons, logic, selection and casts."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Refusal, Tied, operator
from edgec_targets.emitters.litert.values import array, integer

_COMPARISONS = {
    "Equal": "EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
}
_LOGIC = {"And": "LOGICAL_AND", "Or": "LOGICAL_OR"}


@operator(*_COMPARISONS, *_LOGIC, "Xor", layout=Tied())
def compare(ctx: Context, node: ir.Node) -> None:
    """Two inputs with broadcasting, a boolean result. Exclusive or is inequality."""
    # 8-bit integers without a scale: TFLite's comparisons would look for one.
    a, b = (
        cast_to(ctx, t, "int32") if t.dtype in ("int8", "uint8") else t for t in (ctx.tied(node, 0), ctx.tied(node, 1))
    )
    code = _COMPARISONS.get(node.op_type) or _LOGIC.get(node.op_type) or "NOT_EQUAL"
    ctx.broadcast(code, a, b, ctx.result(node, ctx.perm(node)))


@operator("Not", layout=Tied())
def negate(ctx: Context, node: ir.Node) -> None:
    """LOGICAL_NOT."""
    ctx.unary("LOGICAL_NOT", ctx.tied(node, 0), ctx.result(node, ctx.perm(node)), "LogicalNotOptions")


@operator("IsNaN", layout=Tied())
def is_nan(ctx: Context, node: ir.Node) -> None:
    """Only a NaN differs from itself."""
    x = ctx.tied(node, 0)
    ctx.broadcast("NOT_EQUAL", x, x, ctx.result(node, ctx.perm(node)))


@operator("IsInf", layout=Tied())
def is_infinite(ctx: Context, node: ir.Node) -> None:
    """Equality with infinity: of the magnitude, or of one sign."""
    both = [integer(node, n, 1) for n in ("detect_negative", "detect_positive")]
    x, out = ctx.tied(node, 0), ctx.result(node, ctx.perm(node))
    if all(both):
        x = ctx.unary("ABS", x, None, "AbsOptions")
    limit = np.nan if not any(both) else np.inf if both[1] else -np.inf
    ctx.broadcast("EQUAL", x, ctx.scalar(limit), out)


@operator("Where", layout=Tied())
def where(ctx: Context, node: ir.Node) -> None:
    """SELECT_V2, with broadcasting; more axes than its kernel broadcasts over are refused."""
    condition, a, b = (ctx.tied(node, i) for i in range(3))
    out = ctx.result(node, ctx.perm(node))
    if len(out.shape) > _AXES and len({t.shape for t in (condition, a, b)}) > 1:
        raise Refusal(f"It broadcasts over {len(out.shape)} axes; TFLite's SELECT_V2 takes {_AXES}.")
    ctx.op("SELECT_V2", [condition, a, b], (), "SelectV2Options", out=out)


_AXES = 5


@operator("Cast", "CastLike", layout=Tied())
def cast(ctx: Context, node: ir.Node) -> None:
    """CAST; to a boolean it is the comparison with zero; between types that are one in the file, nothing."""
    x, perm = ctx.tied(node, 0), ctx.perm(node)
    wanted = ctx.dtype(node.outputs[0])
    if x.dtype == wanted:
        ctx.put(node.outputs[0], perm, x)
        return
    out = ctx.result(node, perm)
    if wanted == "bool":
        zero = ctx.file.constant(np.zeros((), x.dtype))
        ctx.broadcast("NOT_EQUAL", x, zero, out)
        return
    ctx.op("CAST", [x], (), "CastOptions", out=out)


def cast_to(ctx: Context, tensor: Tensor, dtype: str) -> Tensor:
    """The tensor in another type; constants at once."""
    if tensor.dtype == dtype:
        return tensor
    if tensor.data is not None:
        return ctx.file.constant(tensor.data.astype(dtype))
    return ctx.op("CAST", [tensor], tensor.shape, "CastOptions", dtype=dtype)


@operator("Trilu", layout=Tied())
def trilu(ctx: Context, node: ir.Node) -> None:
    """A triangle of each matrix: the rest is selected from zeros."""
    perm, x = ctx.perm(node), ctx.tied(node, 0)
    upper = node.attributes.get("upper")
    k = array(node.inputs[1]) if len(node.inputs) > 1 else np.zeros(())
    if k is None:
        raise Refusal("Its diagonal is computed by the model.")
    own = [x.shape[perm.index(len(perm) - 2)], x.shape[perm.index(len(perm) - 1)]]
    cut = np.tril if upper is not None and upper.as_int() == 0 else np.triu
    mask = cut(np.ones(own, np.bool_), int(k.reshape(())))
    condition = ctx.file.constant(ctx.fit(mask, perm))
    ctx.op(
        "SELECT_V2",
        [condition, x, ctx.file.constant(np.zeros((), x.dtype))],
        (),
        "SelectV2Options",
        out=ctx.result(node, perm),
    )
