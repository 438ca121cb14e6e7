"""Reductions: MEAN, SUM, REDUCE_MAX …, and norms made of them; in whatever layout the input has."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Fixed, Layout, Tied, channels_last, identity, operator
from edgec_targets.emitters.litert.values import integer, integers, positive, rank

_CODES = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
    "ReduceProd": "REDUCE_PROD",
}
_BEFORE: dict[str, tuple[str, str | None]] = {
    "ReduceL1": ("ABS", "AbsOptions"),
    "ReduceL2": ("SQUARE", "SquareOptions"),
    "ReduceSumSquare": ("SQUARE", "SquareOptions"),
    "ReduceLogSumExp": ("EXP", "ExpOptions"),
}
_AFTER = {"ReduceL2": "SQRT", "ReduceLogSum": "LOG", "ReduceLogSumExp": "LOG"}


def _axes(node: ir.Node) -> list[int]:
    of = rank(node.inputs[0])
    found = integers(node, "axes", 1)
    if not found:
        return [] if integer(node, "noop_with_empty_axes", 0) else list(range(of))
    return sorted(positive(found, of))


def _layout(node: ir.Node) -> Layout:
    """The input's, where the axes stay. Else any in which those that stay are in ONNX's order: N and C of an image."""
    if integer(node, "keepdims", 1):
        return Tied()
    of, reduced = rank(node.inputs[0]), _axes(node)
    choices = dict.fromkeys((identity(of), channels_last(of)))
    stay = [p for p in choices if (kept := [a for a in p if a not in reduced]) == sorted(kept)]
    return Fixed({0: tuple(stay)}, {})


def _reduce(ctx: Context, node: ir.Node, make: Callable[[Tensor, Tensor, Tensor, bool], None]) -> None:
    """Fetch the input, say the axes in its layout, and call `make(input, axes, result, keep)`."""
    axes, keep = _axes(node), bool(integer(node, "keepdims", 1))
    if keep:
        perm = ctx.perm(node)
        x, own = ctx.tied(node, 0), [k for k, a in enumerate(perm) if a in axes]
        out = ctx.result(node, perm)
    else:
        perm = ctx.layouts.inputs.get((node, 0), identity(rank(node.inputs[0])))
        x, out = ctx.input(node, 0, perm), ctx.result(node)
        own = [k for k, a in enumerate(perm) if a in axes]
    if not own:
        ctx.reshape(x, out.shape, out)
        return
    make(x, ctx.numbers(own), out, keep)


def _mean_integer(node: ir.Node) -> bool:
    return node.op_type == "ReduceMean"


@operator(*_CODES, layout=_layout, integer=_mean_integer)
def reduce(ctx: Context, node: ir.Node) -> None:
    """One operator of TFLite."""
    code = _CODES[node.op_type]
    if node.inputs[0] is not None and node.inputs[0].dtype == ir.DataType.BOOL:
        code = {"ReduceMax": "REDUCE_ANY", "ReduceMin": "REDUCE_ALL"}.get(node.op_type, code)

    def make(x: Tensor, axes: Tensor, out: Tensor, keep: bool) -> None:
        ctx.op(code, [x, axes], (), "ReducerOptions", out=out, keepDims=keep)

    _reduce(ctx, node, make)


@operator(*_BEFORE, "ReduceLogSum", layout=_layout)
def norm(ctx: Context, node: ir.Node) -> None:
    """A function, SUM, another function."""

    def make(x: Tensor, axes: Tensor, out: Tensor, keep: bool) -> None:
        shift = None
        if node.op_type == "ReduceLogSumExp":  # without the largest, exp overflows
            shift = ctx.op("REDUCE_MAX", [x, axes], _kept(x, axes), "ReducerOptions", keepDims=True)
            x = ctx.broadcast("SUB", x, shift)
        before, after = _BEFORE.get(node.op_type), _AFTER.get(node.op_type)
        if before is not None:
            x = ctx.unary(before[0], x, None, before[1])
        last = after is None
        total = ctx.op("SUM", [x, axes], out.shape, "ReducerOptions", out=out if last else None, keepDims=keep)
        if after is not None:
            total = ctx.unary(after, total, out if shift is None else None)
        if shift is not None:
            ctx.broadcast("ADD", total, ctx.reshape(shift, out.shape), out)

    _reduce(ctx, node, make)


def _kept(x: Tensor, axes: Tensor) -> list[int]:
    assert axes.data is not None
    return [1 if k in axes.data else d for k, d in enumerate(x.shape)]
