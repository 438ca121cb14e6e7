"""Pools: MAX_POOL_2D, AVERAGE_POOL_2D, and MEAN and REDUCE_MAX for the global ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops import windows
from edgec_targets.emitters.litert.ops.common import activation
from edgec_targets.emitters.litert.ops.convolution import spatial
from edgec_targets.emitters.litert.registry import Refusal, Tied, channels_last, operator
from edgec_targets.emitters.litert.values import integer, integers, shape, used


def _covers(node: ir.Node) -> bool:
    """Whether the window is the whole image, unpadded: a mean over the spatial axes."""
    kernel, dims = integers(node, "kernel_shape") or [], shape(node.inputs[0])
    return (
        tuple(kernel) == dims[2:]
        and not any(integers(node, "pads") or [])
        and shape(node.outputs[0])[2:] == (1,) * len(kernel)
    )


@operator("MaxPool", layout=spatial)
def max_pool(ctx: Context, node: ir.Node) -> None:
    """MAX_POOL_2D; what ceil_mode and padding add never wins."""
    if used(node, 1):
        raise Refusal("Its second result (indices) is used; TFLite's MAX_POOL_2D has none.")
    x, window, out_size, out = _read(ctx, node)
    if window.dilations != (1, 1):
        raise Refusal("It has dilations; TFLite's pools have none.")
    lowest = float(np.finfo(np.float32).min if x.dtype == "float32" else np.iinfo(x.dtype).min)
    window = _ceiled(window, x, out_size)
    x, padding = windows.pad(ctx, x, window, out_size, lowest)
    _pool(ctx, node, "MAX_POOL_2D", x, window, padding, out)


def _average_integer(node: ir.Node) -> bool:
    return node.domain in ("", "ai.onnx") and _covers(node)


@operator("AveragePool", layout=spatial, integer=_average_integer)
def average_pool(ctx: Context, node: ir.Node) -> None:
    """AVERAGE_POOL_2D, which counts what is not padding; with padding counted, zeros are written around first.

    Over the whole image it is a MEAN. Where ceil_mode makes a window reach over the end, sums and counts are
    averaged apart: ONNX counts no element beyond the padding.
    """
    value = node.inputs[0]
    if _covers(node):
        last = channels_last(len(shape(value)))
        out = ctx.result(node, last)
        _mean(ctx, ctx.get(value, last), out, list(range(1, len(last) - 1)), keep=True)
        return
    x, window, out_size, out = _read(ctx, node)
    if window.dilations != (1, 1):
        raise Refusal("It has dilations; TFLite's pools have none.")
    counted = bool(integer(node, "count_include_pad", 0))
    grown = _ceiled(window, x, out_size)
    if not grown.padded:
        _pool(ctx, node, "AVERAGE_POOL_2D", x, grown, *_valid(), out)
    elif not counted and grown.same(x.shape[1:3], out_size):
        _pool(ctx, node, "AVERAGE_POOL_2D", x, grown, *_same(), out)
    elif counted and grown == window:
        x, padding = windows.explicit(ctx, x, window.before, window.after), _valid()[0]
        _pool(ctx, node, "AVERAGE_POOL_2D", x, window, padding, out)
    else:
        _weighted(ctx, node, x, window, grown, out, out_size, counted)


def _weighted(
    ctx: Context,
    node: ir.Node,
    x: Tensor,
    window: windows.Window,
    grown: windows.Window,
    out: Tensor,
    out_size: tuple[int, int],
    counted: bool,
) -> None:
    """Mean over full windows of zeros and values, times full size / count, a constant a position."""
    if x.dtype != "float32":
        raise Refusal("Its windows reach over the border; between integers TFLite has no such average.")
    ones = np.ones(x.shape[1:3], np.float64)
    if counted:
        ones = np.pad(ones, tuple(zip(window.before, window.after, strict=True)), constant_values=1.0)
        rest = [(0, g - w) for g, w in zip(grown.after, window.after, strict=True)]
        ones = np.pad(ones, rest)
    else:
        ones = np.pad(ones, tuple(zip(grown.before, grown.after, strict=True)))
    counts = np.zeros(out_size)
    for i in range(out_size[0]):
        for j in range(out_size[1]):
            top, left = i * window.strides[0], j * window.strides[1]
            counts[i, j] = ones[top : top + window.kernel[0], left : left + window.kernel[1]].sum()
    factor = (window.kernel[0] * window.kernel[1] / np.maximum(counts, 1)).astype(np.float32)
    padded = windows.explicit(ctx, x, grown.before, grown.after)
    mean = ctx.file.tensor((x.shape[0], *out_size, x.shape[3]), "float32")
    _pool(ctx, node, "AVERAGE_POOL_2D", padded, grown, *_valid(), mean, final=False)
    scaled = ctx.broadcast(
        "MUL", mean, ctx.file.constant(factor[None, :, :, None]), out, fusedActivationFunction=activation(node)
    )
    _finish(ctx, node, scaled)


@operator("GlobalAveragePool", layout=Tied(), integer=True)
def global_average(ctx: Context, node: ir.Node) -> None:
    """MEAN over all axes but the first two."""
    perm = ctx.perm(node)
    axes = [k for k, a in enumerate(perm) if a > 1]
    _mean(ctx, ctx.tied(node, 0), ctx.result(node, perm), axes, keep=True)


@operator("GlobalMaxPool", layout=Tied())
def global_max(ctx: Context, node: ir.Node) -> None:
    """REDUCE_MAX over all axes but the first two."""
    perm = ctx.perm(node)
    axes = ctx.numbers([k for k, a in enumerate(perm) if a > 1])
    ctx.op("REDUCE_MAX", [ctx.tied(node, 0), axes], (), "ReducerOptions", out=ctx.result(node, perm), keepDims=True)


def _mean(ctx: Context, x: Tensor, out: Tensor, axes: list[int], *, keep: bool) -> None:
    ctx.op("MEAN", [x, ctx.numbers(axes)], (), "ReducerOptions", out=out, keepDims=keep)


def _read(ctx: Context, node: ir.Node) -> tuple[Tensor, windows.Window, tuple[int, int], Tensor]:
    """Input N H W C, window, the result's spatial sizes, and the result's tensor N H W C."""
    dims, out = shape(node.inputs[0]), shape(node.outputs[0])
    window = windows.read(node, dims[2:], integers(node, "kernel_shape") or [])
    last = channels_last(len(dims))
    x = ctx.get(node.inputs[0], last)
    out_size = (1, out[2]) if len(out) == 3 else (out[2], out[3])
    size = (1, dims[2]) if len(dims) == 3 else (dims[2], dims[3])
    for n in range(2):
        if (out_size[n] - 1) * window.strides[n] >= size[n] + window.before[n]:
            # ONNX's shape inference counts such windows, ONNX Runtime does not make them.
            raise Refusal("Its last window begins beyond the image (ceil_mode).", "Use ceil_mode = 0.")
    if len(dims) == 3:
        x = ctx.reshape(x, (x.shape[0], 1, *x.shape[1:]))
    result = ctx.result(node, last, dims=(out[0], *out_size, out[1]))
    return x, window, out_size, result


def _ceiled(window: windows.Window, x: Tensor, out_size: tuple[int, int]) -> windows.Window:
    """The window with as much padding at the end as the last windows reach over (ceil_mode)."""
    after = []
    for n in range(2):
        reach = (out_size[n] - 1) * window.strides[n] + window.kernel[n]
        after.append(max(window.after[n], reach - x.shape[1 + n] - window.before[n]))
    return replace(window, after=(after[0], after[1]))


def _valid() -> tuple[int]:
    from edgec_targets.emitters.litert.schema import schema

    return (int(schema().Padding.VALID),)


def _same() -> tuple[int]:
    from edgec_targets.emitters.litert.schema import schema

    return (int(schema().Padding.SAME),)


def _pool(
    ctx: Context,
    node: ir.Node,
    code: str,
    x: Tensor,
    window: windows.Window,
    padding: int,
    out: Tensor,
    *,
    final: bool = True,
) -> None:
    ctx.op(
        code,
        [x],
        (),
        "Pool2DOptions",
        out=out,
        padding=padding,
        strideH=window.strides[0],
        strideW=window.strides[1],
        filterHeight=window.kernel[0],
        filterWidth=window.kernel[1],
        fusedActivationFunction=activation(node) if final else 0,
    )
    if final:
        _finish(ctx, node, out)


def _finish(ctx: Context, node: ir.Node, made: Tensor) -> None:
    """Register the result: as it is, or without the axis that was added."""
    value = node.outputs[0]
    last = channels_last(len(shape(value)))
    ctx.put(value, last, ctx.reshape(made, [shape(value)[a] for a in last]))
