"""Normalizations, made of means: TFLite has no operator of theirs but the local response."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Refusal, Tied, operator
from edgec_targets.emitters.litert.values import axis, constant, given, integer, integers, number, positive, rank, used


def _mean(ctx: Context, x: Tensor, axes: list[int]) -> Tensor:
    dims = [1 if k in axes else d for k, d in enumerate(x.shape)]
    return ctx.op("MEAN", [x, ctx.numbers(axes)], dims, "ReducerOptions", keepDims=True)


def _standard(
    ctx: Context, x: Tensor, axes: list[int], epsilon: float, *, centred: bool = True
) -> tuple[Tensor, Tensor | None, Tensor]:
    """(x − mean) / √(variance + epsilon) over the file's axes, the mean, and the factor.

    Without the mean if not `centred` (RMS).
    """
    mean = _mean(ctx, x, axes) if centred else None
    if mean is not None:
        x = ctx.broadcast("SUB", x, mean)
    variance = _mean(ctx, ctx.unary("SQUARE", x, None, "SquareOptions"), axes)
    factor = ctx.unary("RSQRT", ctx.broadcast("ADD", variance, ctx.scalar(epsilon)))
    return ctx.broadcast("MUL", x, factor), mean, factor


def _affine(ctx: Context, x: Tensor, scale: Tensor | None, shift: Tensor | None, out: Tensor) -> None:
    steps = [(code, t) for code, t in (("MUL", scale), ("ADD", shift)) if t is not None]
    if not steps:
        ctx.reshape(x, x.shape, out)
    for n, (code, tensor) in enumerate(steps):
        x = ctx.broadcast(code, x, tensor, out if n == len(steps) - 1 else None)


def _channels(ctx: Context, node: ir.Node, index: int, of: int) -> Tensor | None:
    """A constant of one value a channel (axis 1 of `of` axes), fitted to the node's layout."""
    data = constant(node, index, "scale or bias")
    if data is None:
        return None
    return ctx.constant(ctx.fit(data.reshape(-1, *(1,) * (of - 2)), ctx.perm(node)))


@operator("LayerNormalization", "RMSNormalization", layout=Tied())
def layer(ctx: Context, node: ir.Node) -> None:
    """Over all axes from `axis` on."""
    perm, of = ctx.perm(node), rank(node.inputs[0])
    first = axis(node, -1, of)
    own = [k for k, a in enumerate(perm) if a >= first]
    centred = node.op_type == "LayerNormalization"
    x, mean, factor = _standard(ctx, ctx.tied(node, 0), own, number(node, "epsilon", 1e-5), centred=centred)
    for index, tensor in ((1, mean), (2, factor)):
        if used(node, index) and tensor is not None:
            ctx.put(node.outputs[index], perm, tensor)
    scale, shift = (ctx.tied(node, i) if given(node, i) is not None else None for i in (1, 2))
    _affine(ctx, x, scale, shift, ctx.result(node, perm))


@operator("InstanceNormalization", layout=Tied())
def instance(ctx: Context, node: ir.Node) -> None:
    """Over the spatial axes of each channel."""
    perm, of = ctx.perm(node), rank(node.inputs[0])
    own = [k for k, a in enumerate(perm) if a > 1]
    x, _, _ = _standard(ctx, ctx.tied(node, 0), own, number(node, "epsilon", 1e-5))
    _affine(ctx, x, _channels(ctx, node, 1, of), _channels(ctx, node, 2, of), ctx.result(node, perm))


@operator("GroupNormalization", layout=Tied())
def group(ctx: Context, node: ir.Node) -> None:
    """Over the spatial axes and the channels of a group; scale and bias a channel (opset 21) or a group (18)."""
    perm, of, groups = ctx.perm(node), rank(node.inputs[0]), integer(node, "num_groups", 1)
    x = ctx.tied(node, 0)
    at = perm.index(1)
    channels = x.shape[at]
    split = ctx.reshape(x, (*x.shape[:at], groups, channels // groups, *x.shape[at + 1 :]))
    kept = {at, perm.index(0) + (1 if perm.index(0) > at else 0)}
    own = [k for k in range(len(split.shape)) if k not in kept]
    apart, _, _ = _standard(ctx, split, own, number(node, "epsilon", 1e-5))
    made = ctx.reshape(apart, x.shape)
    both: list[Tensor | None] = []
    for index in (1, 2):
        data = constant(node, index, "scale or bias")
        if data is None:
            both.append(None)
            continue
        each = data if data.size == channels else np.repeat(data.reshape(-1), channels // groups)
        both.append(ctx.constant(ctx.fit(each.reshape(-1, *(1,) * (of - 2)), perm)))
    _affine(ctx, made, both[0], both[1], ctx.result(node, perm))


@operator("BatchNormalization", layout=Tied())
def batch(ctx: Context, node: ir.Node) -> None:
    """x · s + t with s = scale / √(variance + epsilon), computed in double precision."""
    if integer(node, "training_mode", 0):
        raise Refusal("It is in training mode.", "Export the model for inference.")
    found = [constant(node, i, "parameter") for i in range(1, 5)]
    if any(f is None for f in found):
        raise Refusal("It lacks a parameter.")
    scale, shift, mean, variance = (np.asarray(f, np.float64) for f in found)
    factor = scale / np.sqrt(variance + number(node, "epsilon", 1e-5))
    perm, of = ctx.perm(node), rank(node.inputs[0])
    both = []
    for data in (factor, shift - mean * factor):
        both.append(ctx.constant(ctx.fit(data.astype(np.float32).reshape(-1, *(1,) * (of - 2)), perm)))
    _affine(ctx, ctx.tied(node, 0), both[0], both[1], ctx.result(node, perm))


@operator("LRN", layout=lambda node: Tied(last=1))
def local_response(ctx: Context, node: ir.Node) -> None:
    """LOCAL_RESPONSE_NORMALIZATION over the last axis; TFLite's alpha isn't divided by the window's size."""
    size = integer(node, "size", 1)
    if size % 2 == 0 or rank(node.inputs[0]) != 4:
        raise Refusal("TFLite normalizes over windows of odd size of an image's channels.")
    ctx.unary(
        "LOCAL_RESPONSE_NORMALIZATION",
        ctx.tied(node, 0),
        ctx.result(node, ctx.perm(node)),
        "LocalResponseNormalizationOptions",
        radius=size // 2,
        bias=number(node, "bias", 1.0),
        alpha=number(node, "alpha", 1e-4) / size,
        beta=number(node, "beta", 0.75),
    )


@operator("LpNormalization", layout=Tied())
def lp(ctx: Context, node: ir.Node) -> None:
    """x divided by its norm along one axis; TFLite's own L2_NORMALIZATION adds an epsilon that ONNX hasn't."""
    perm, x = ctx.perm(node), ctx.tied(node, 0)
    at = perm.index(axis(node, -1, len(perm)))
    first = integer(node, "p", 2) == 1
    inner = ctx.unary("ABS", x, None, "AbsOptions") if first else ctx.unary("SQUARE", x, None, "SquareOptions")
    dims = [1 if k == at else d for k, d in enumerate(x.shape)]
    total = ctx.op("SUM", [inner, ctx.numbers([at])], dims, "ReducerOptions", keepDims=True)
    norm = total if first else ctx.unary("SQRT", total)
    # The norm of zeros is zero, and ONNX leaves the zeros as they are.
    least = ctx.scalar(float(np.finfo(np.float32).tiny))
    ctx.broadcast("DIV", x, ctx.broadcast("MAXIMUM", norm, least), ctx.result(node, perm))


@operator("MeanVarianceNormalization", layout=Tied())
def mean_variance(ctx: Context, node: ir.Node) -> None:
    """(x − mean) / (√variance + 1e-9), as ONNX's function body has it."""
    perm, x = ctx.perm(node), ctx.tied(node, 0)
    axes = positive(integers(node, "axes") or [0, 2, 3], len(perm))
    own = [k for k, a in enumerate(perm) if a in axes]
    centred = ctx.broadcast("SUB", x, _mean(ctx, x, own))
    variance = _mean(ctx, ctx.unary("SQUARE", centred, None, "SquareOptions"), own)
    below = ctx.broadcast("ADD", ctx.unary("SQRT", variance), ctx.scalar(1e-9))
    ctx.broadcast("DIV", centred, below, ctx.result(node, perm))
