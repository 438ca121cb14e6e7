"""Operators that move elements: reshapes, transposes, concatenation, slices, padding, tiling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import flattening
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops.common import requantized
from edgec_targets.emitters.litert.registry import PLAIN, Fixed, Layout, Moved, Refusal, Tied, identity, operator
from edgec_targets.emitters.litert.values import array, axis, constant, integers, positive, rank, shape, text, used


def _flattened(node: ir.Node) -> Layout:
    choices = flattening.layouts(node)
    return PLAIN if choices is None else Fixed({0: choices}, {})


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze", layout=_flattened)
def reshape(ctx: Context, node: ir.Node) -> None:
    """RESHAPE to the shape that was inferred; of an image as it lies, where a matrix product follows (`flattening`)."""
    value = node.outputs[0]
    x = ctx.input(node, 0, ctx.layouts.inputs.get((node, 0)))
    ctx.put(value, identity(rank(value)), ctx.reshape(x, shape(value)))


@operator("Identity", "Dropout", layout=Tied())
def same(ctx: Context, node: ir.Node) -> None:
    """Nothing is written: the result is the input."""
    if used(node, 1):
        raise Refusal("Its mask is used.")
    training = array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else np.zeros(1)
    if training is None or training.any():
        raise Refusal("It is in training mode.", "Export the model for inference.")
    ctx.put(node.outputs[0], ctx.perm(node), ctx.tied(node, 0))


def _permutation(node: ir.Node) -> Moved:
    of = rank(node.inputs[0])
    return Moved(tuple(integers(node, "perm") or range(of)[::-1]))


@operator("Transpose", layout=_permutation)
def transpose(ctx: Context, node: ir.Node) -> None:
    """The same tensor under another layout; `Context.get` transposes where a reader wants it otherwise."""
    moved = _permutation(node).perm
    has = ctx.layouts.nodes.get(node, tuple(range(len(moved))))
    ctx.put(node.outputs[0], tuple(moved.index(a) for a in has), ctx.input(node, 0, has))


@operator("Concat", layout=Tied(), integer=True)
def concat(ctx: Context, node: ir.Node) -> None:
    """CONCATENATION; integers are brought to the result's scale first."""
    perm = ctx.perm(node)
    where = perm.index(axis(node, 0, len(perm)))
    out = ctx.result(node, perm)
    tensors = []
    for value in node.inputs:
        data = array(value)
        tensor = ctx.get(value, perm) if data is None or value is None else ctx.constant(data.transpose(perm), value)
        if tensor.size:
            tensors.append(requantized(ctx, tensor, out.quantization))
    ctx.op("CONCATENATION", tensors, (), "ConcatenationOptions", out=out, axis=where)


@operator("Slice", layout=Tied())
def slice_(ctx: Context, node: ir.Node) -> None:
    """SLICE, with steps STRIDED_SLICE; backwards by REVERSE_V2."""
    perm, dims = ctx.perm(node), shape(node.inputs[0])
    starts, ends = integers(node, "starts", 1), integers(node, "ends", 2)
    if starts is None or ends is None:
        raise Refusal("It has no starts or ends.")
    axes = positive(integers(node, "axes", 3) or list(range(len(starts))), len(dims))
    steps = integers(node, "steps", 4) or [1] * len(starts)
    begin, end, step, back = [0] * len(dims), list(dims), [1] * len(dims), []
    for a, s, e, t in zip(axes, starts, ends, steps, strict=True):
        s, e, _ = slice(s, e if e >= -dims[a] - (t > 0) or t > 0 else None, t).indices(dims[a])
        if t < 0:
            back.append(a)
            s, e, t = dims[a] - 1 - s, dims[a] - 1 - e, -t
        begin[a], end[a], step[a] = s, max(e, s), t
    x, out = ctx.tied(node, 0), ctx.result(node, perm)
    if 0 in out.shape:
        raise Refusal("Its result is empty.")
    own = [perm.index(a) for a in back]
    if own:
        x = ctx.op("REVERSE_V2", [x, ctx.numbers(own)], x.shape, "ReverseV2Options")
    first, stop, stride = ([v[a] for a in perm] for v in (begin, end, step))
    if any(n != 1 for n in stride):
        if len(perm) > 5:
            raise Refusal("It slices more than five axes with steps.")
        ctx.op(
            "STRIDED_SLICE",
            [x, ctx.numbers(first), ctx.numbers(stop), ctx.numbers(stride)],
            (),
            "StridedSliceOptions",
            out=out,
        )
    else:
        if len(perm) > 5:
            raise Refusal("It slices more than five axes.")
        size = [h - low for low, h in zip(first, stop, strict=True)]
        ctx.op("SLICE", [x, ctx.numbers(first), ctx.numbers(size)], (), "SliceOptions", out=out)


@operator("Split", layout=Tied())
def split(ctx: Context, node: ir.Node) -> None:
    """SPLIT_V: parts as long as the results are."""
    perm, dims = ctx.perm(node), shape(node.inputs[0])
    where = axis(node, 0, len(dims))
    sizes = [shape(o)[where] for o in node.outputs]
    x = ctx.tied(node, 0)
    outs = [ctx.result(node, perm, n) for n in range(len(node.outputs))]
    if len(outs) == 1:
        ctx.reshape(x, x.shape, outs[0])
        return
    inputs = [x, ctx.numbers(sizes), ctx.file.constant(np.asarray(perm.index(where), np.int32))]
    ctx.file.operate("SPLIT_V", inputs, outs, "SplitVOptions", numSplits=len(outs))


@operator("Pad", layout=Tied())
def pad(ctx: Context, node: ir.Node) -> None:
    """PAD and PADV2; reflections by slices reversed, edges by slices repeated."""
    perm, of, mode = ctx.perm(node), rank(node.inputs[0]), text(node, "mode", "constant")
    pads = integers(node, "pads", 1)
    if pads is None:
        raise Refusal("It has no pads.")
    axes = positive(integers(node, "axes", 3) or list(range(of)), of)
    widths = np.zeros((of, 2), np.int32)
    for n, a in enumerate(axes):
        widths[a] = pads[n], pads[n + len(axes)]
    x = ctx.tied(node, 0)
    widths = widths[list(perm)]
    if (widths < 0).any():
        cut = np.minimum(widths, 0)
        size = [d + int(c.sum()) for d, c in zip(x.shape, cut, strict=True)]
        x = ctx.op("SLICE", [x, ctx.numbers(-cut[:, 0]), ctx.numbers(size)], size, "SliceOptions")
        widths = np.maximum(widths, 0)
    out = ctx.result(node, perm)
    value = constant(node, 2, "padding value")
    fill = 0.0 if value is None or not value.size else value.reshape(())
    if of > 5 and mode in ("constant", "reflect"):
        raise Refusal("It pads a tensor of more than five axes.")
    if mode == "constant":
        if fill == 0:
            ctx.op("PAD", [x, ctx.numbers(widths)], (), "PadOptions", out=out)
        else:
            filling = ctx.file.constant(np.asarray([fill], x.dtype))
            ctx.op("PADV2", [x, ctx.numbers(widths), filling], (), "PadV2Options", out=out)
    elif mode == "reflect":
        if any(w >= d for d, pair in zip(x.shape, widths, strict=True) for w in pair):
            raise Refusal("It reflects more than the axis is long.")
        _reflected(ctx, x, widths, out)
    elif mode == "edge":
        index = _edges(ctx, x, widths)
        ctx.reshape(index, out.shape, out)
    else:
        raise Refusal(f"TFLite has no padding of mode '{mode}'.")


def _reflected(ctx: Context, x: Tensor, widths: np.ndarray, out: Tensor) -> None:
    """An axis at a time, copied by rows: MIRROR_PAD works out each element, at some eighty instructions."""
    axes = [k for k, pair in enumerate(widths) if pair.any()]
    for k in axes:
        low, high = (int(w) for w in widths[k])
        ends = ((1, low), (x.shape[k] - 1 - high, high))
        before, after = (_reversed(ctx, x, k, start, count) for start, count in ends)
        parts = [t for t in (before, x, after) if t is not None]
        dims = (*x.shape[:k], x.shape[k] + low + high, *x.shape[k + 1 :])
        last = out if k == axes[-1] else None
        x = ctx.op("CONCATENATION", parts, dims, "ConcatenationOptions", out=last, axis=k)
    if not axes:
        ctx.reshape(x, out.shape, out)


def _reversed(ctx: Context, x: Tensor, axis: int, start: int, count: int) -> Tensor | None:
    """`count` elements of an axis from `start` on, the last first; None where they are none."""
    if not count:
        return None
    begin, size = [0] * len(x.shape), list(x.shape)
    begin[axis], size[axis] = start, count
    part = ctx.op("SLICE", [x, ctx.numbers(begin), ctx.numbers(size)], size, "SliceOptions")
    return ctx.op("REVERSE_V2", [part, ctx.numbers([axis])], size, "ReverseV2Options")


def _edges(ctx: Context, x: Tensor, widths: np.ndarray) -> Tensor:
    for k, (low, high) in enumerate(widths):
        if not low and not high:
            continue
        rows = np.clip(np.arange(-low, x.shape[k] + high), 0, x.shape[k] - 1)
        dims = (*x.shape[:k], len(rows), *x.shape[k + 1 :])
        x = ctx.op("GATHER", [x, ctx.numbers(rows)], dims, "GatherOptions", axis=k)
    return x


@operator("Expand", layout=Tied())
def expand(ctx: Context, node: ir.Node) -> None:
    """BROADCAST_TO; where nothing grows, the input."""
    x, perm = ctx.tied(node, 0), ctx.perm(node)
    out = ctx.result(node, perm)
    if x.shape == out.shape:
        ctx.put(node.outputs[0], perm, x)
        return
    ctx.op("BROADCAST_TO", [x, ctx.numbers(out.shape)], (), "BroadcastToOptions", out=out)


@operator("Tile", layout=Tied())
def tile(ctx: Context, node: ir.Node) -> None:
    """TILE."""
    repeats, perm = integers(node, "repeats", 1), ctx.perm(node)
    assert repeats is not None
    out = ctx.result(node, perm)
    ctx.op("TILE", [ctx.tied(node, 0), ctx.numbers([repeats[a] for a in perm])], (), "TileOptions", out=out)
