"""Moving values: reshapes (which are free), transpositions, slices, concatenations, padding, reductions."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import MOST, Blob, Context, held, kept
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import (
    array,
    given,
    integer,
    integers,
    need,
    numbers,
    shape,
    text,
)  # fmt: skip

_ORDERS = (
    "WH HW",
    "WHC HWC WCH CWH HCW CHW",
    "WHDC HWDC WDHC DWHC HDWC DHWC WHCD HWCD WCHD CWHD HCWD CHWD "
    "WDCH DWCH WCDH CWDH DCWH CDWH HDCW DHCW HCDW CHDW DCHW CDHW",
)
_PERMUTES = {rank: orders.split() for rank, orders in enumerate(_ORDERS, start=2)}
"""Permute's order types: from where the result's innermost dimension comes, and so on outwards."""
_AXES = {2: "HW", 3: "CHW", 4: "CDHW"}
_REDUCTIONS = {"Sum": 0, "SumSquare": 2, "Mean": 3, "Max": 4, "Min": 5, "Prod": 6, "L1": 7, "L2": 8, "LogSum": 9,
               "LogSumExp": 10}  # fmt: skip
_PADDINGS = {"constant": 0, "edge": 1, "reflect": 2}


@operator("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(ctx: Context, node: ir.Node) -> None:
    """Nothing yet: whoever reads the value says in which dimensions it wants it."""
    ctx.put(node.outputs[0], ctx.get(need(node, 0)))


@operator("Transpose")
def transpose(ctx: Context, node: ir.Node) -> None:
    """One Permute of at most four dimensions: axes of one element vanish, axes that stay together are one."""
    dims = shape(need(node, 0))
    order = [n for n in integers(node, "perm", range(len(dims))[::-1]) if dims[n] != 1]
    runs: list[list[int]] = []
    large = [n for n in range(len(dims)) if dims[n] != 1]
    for axis in order:
        if runs and large.index(axis) == large.index(runs[-1][-1]) + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) > MOST:
        raise Refusal(f"It moves {len(runs)} dimensions apart; ncnn has four.")
    before = sorted(runs)
    sizes = tuple(math.prod(dims[n] for n in run) for run in before)
    ctx.put(node.outputs[0], permute(ctx, ctx.view(need(node, 0), sizes or (1,)), [before.index(run) for run in runs]))


def permute(ctx: Context, x: Blob, order: list[int]) -> Blob:
    """Dimension k of the result is dimension order[k] of x."""
    if order == sorted(order):
        return x
    rank = len(order)
    letters = "".join(_AXES[rank][n] for n in reversed(order))
    dims = tuple(x.dims[n] for n in order)
    return ctx.op("Permute", [x], dims, {0: _PERMUTES[rank].index(letters)})


@operator("Concat")
def concat(ctx: Context, node: ir.Node) -> None:
    """Concat: operands are seen with the axes that the result is held with."""
    result = node.outputs[0]
    axes, axis = kept(shape(result)), ctx.axis(result, integer(node, "axis"))
    if axis is None:
        return ctx.put(result, ctx.get(need(node, 0)))
    blobs = [ctx.view(value, tuple(shape(value)[n] for n in axes)) for value in node.inputs if value is not None]
    return ctx.put(result, blobs[0] if len(blobs) == 1 else ctx.op("Concat", blobs, held(shape(result)), {0: axis}))


@operator("Split")
def split(ctx: Context, node: ir.Node) -> None:
    """Slice."""
    value = need(node, 0)
    axis = ctx.axis(value, integer(node, "axis"))
    x = ctx.standard(value)
    if axis is None or len(node.outputs) == 1:
        return ctx.put(node.outputs[0], x)
    sizes = [shape(result)[integer(node, "axis") % len(shape(value))] for result in node.outputs]
    dims = [(*x.dims[:axis], size, *x.dims[axis + 1 :]) for size in sizes]
    names = ctx.file.layer("Slice", [x.name], dims, {0: sizes, 1: axis})
    for result, name, part in zip(node.outputs, names, dims, strict=True):
        ctx.put(result, Blob(name, part))
    return None


def crop(ctx: Context, x: Blob, ranges: dict[int, tuple[int, int]]) -> Blob:
    """Parts of dimensions: dimension → begin and end."""
    ranges = {n: part for n, part in ranges.items() if part != (0, x.dims[n])}
    if not ranges:
        return x
    dims = tuple(ranges[n][1] - ranges[n][0] if n in ranges else d for n, d in enumerate(x.dims))
    begins, ends = [ranges[n][0] for n in ranges], [ranges[n][1] for n in ranges]
    return ctx.op("Crop", [x], dims, {9: begins, 10: ends, 11: list(ranges)})


@operator("Slice")
def slices(ctx: Context, node: ir.Node) -> None:
    """Crop. Steps larger than one: an axis is split in two, and the first of the steps is taken."""
    value = need(node, 0)
    dims = shape(value)
    begins, ends = numbers(node, 1, "begins") or [], numbers(node, 2, "ends") or []
    axes = numbers(node, 3, "axes") or list(range(len(begins)))
    steps = numbers(node, 4, "steps") or [1] * len(begins)
    x = ctx.standard(value)
    strided: list[tuple[int, int]] = []
    ranges = {}
    for axis, begin, end, step in zip((a % len(dims) for a in axes), begins, ends, steps, strict=True):
        if step < 1:
            raise Refusal("It goes backwards.")
        at = range(dims[axis])[begin:end:step]
        place = ctx.axis(value, axis)
        if place is None:
            continue
        last = at[0] + len(at) * step
        if step > 1 and last > dims[axis]:
            raise Refusal(f"It takes every {step}th of {dims[axis]} elements, which don't come out even.")
        ranges[place] = (at[0], last)
        if step > 1:
            strided.append((place, step))
    x = crop(ctx, x, ranges)
    for place, step in strided:
        size = x.dims[place] // step
        before, after = math.prod(x.dims[:place]), math.prod(x.dims[place + 1 :])
        whole = (*x.dims[:place], size, *x.dims[place + 1 :])
        x = ctx.reshape(crop(ctx, ctx.reshape(x, (before * size, step, after)), {1: (0, 1)}), whole)
    ctx.put(node.outputs[0], x)


@operator("Gather")
def gather(ctx: Context, node: ir.Node) -> None:
    """Constant places along one axis: a Crop, or several put together."""
    value = need(node, 0)
    places = numbers(node, 1, "indices")
    axis = ctx.axis(value, integer(node, "axis"))
    x = ctx.standard(value)
    if places is None or axis is None:
        raise Refusal("It gathers along an axis of one element.")
    places = [n % x.dims[axis] for n in places]
    runs: list[list[int]] = []
    for n in places:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    parts = [crop(ctx, x, {axis: (run[0], run[-1] + 1)}) for run in runs]
    dims = (*x.dims[:axis], len(places), *x.dims[axis + 1 :])
    ctx.put(node.outputs[0], parts[0] if len(parts) == 1 else ctx.op("Concat", parts, dims, {0: axis}))


@operator("Pad")
def pad(ctx: Context, node: ir.Node) -> None:
    """Padding of the last two dimensions, and of the one before them with constants."""
    value = need(node, 0)
    dims = shape(value)
    pads = numbers(node, 1, "pads") or []
    axes = numbers(node, 3, "axes") or list(range(len(dims)))
    mode = text(node, "mode", "constant")
    if mode not in _PADDINGS or min(pads, default=0) < 0:
        raise Refusal(f"It pads by {mode!r}, or cuts off; constant, edge and reflect are written.")
    number = array(given(node, 2))
    x = ctx.standard(value)
    around = [(0, 0)] * len(x.dims)
    for n, axis in enumerate(axes):
        ends = (pads[n], pads[len(axes) + n])
        place = ctx.axis(value, axis)
        if place is None and ends != (0, 0):
            raise Refusal("It pads the batch.")
        if place is not None:
            around[place] = ends
    if len(around) > 3 and around[0] != (0, 0):
        raise Refusal("It pads channels of four dimensions.")
    params: dict[int, float] = {4: _PADDINGS[mode]}
    for keys, ends in zip(((2, 3), (0, 1), (7, 8)), reversed(around), strict=False):
        params |= dict(zip(keys, ends, strict=True))
    if number is not None:
        params[5] = float(number.reshape(()))
    result = tuple(d + sum(ends) for d, ends in zip(x.dims, around, strict=True))
    ctx.put(node.outputs[0], ctx.op("Padding", [x], result, params) if result != x.dims else x)


@operator(*(f"Reduce{name}" for name in _REDUCTIONS))
def reduce(ctx: Context, node: ir.Node) -> None:
    """Reduction; the mean over an image is its pool, which ncnn runs faster."""
    value = need(node, 0)
    dims = shape(value)
    axes = numbers(node, 1, "axes")
    axes = integers(node, "axes", []) if axes is None else axes
    if not axes and integer(node, "noop_with_empty_axes"):
        return ctx.put(node.outputs[0], ctx.get(value))
    axes = sorted({n % len(dims) for n in axes or range(len(dims))})
    what = node.op_type.removeprefix("Reduce")
    x = ctx.standard(value)
    places = [place for n in axes if (place := ctx.axis(value, n)) is not None]
    if what == "Mean" and len(x.dims) == 3 and places == [1, 2]:
        return ctx.put(node.outputs[0], ctx.op("Pooling", [x], x.dims[:1], {0: 1, 4: 1}))
    if not places:
        raise Refusal("It reduces an axis of one element.")
    result = tuple(1 if n in places else d for n, d in enumerate(x.dims))
    params: dict[int, int | list[int]] = {0: _REDUCTIONS[what], 1: 0, 3: places, 4: 1, 5: 1}
    return ctx.put(node.outputs[0], ctx.op("Reduction", [x], result, params))


@operator("DepthToSpace", "SpaceToDepth")
def blocks(ctx: Context, node: ir.Node) -> None:
    """Reshape, Permute, Reshape, as ONNX defines them: in at most four dimensions at a time."""
    dims = shape(need(node, 0))
    if len(dims) != 4 or dims[0] != 1:
        raise Refusal("It takes a batch.")
    size, (_, channels, height, width) = integer(node, "blocksize"), dims
    if node.op_type == "SpaceToDepth":
        x = ctx.view(need(node, 0), (channels, height, width))
        result = (channels * size * size, height // size, width // size)
        return ctx.put(node.outputs[0], ctx.op("Reorg", [x], result, {0: size, 1: 1}))
    x = ctx.view(need(node, 0), (channels, height, width))
    result = (channels // size**2, height * size, width * size)
    mode = int(text(node, "mode", "DCR") == "DCR")
    return ctx.put(node.outputs[0], ctx.op("PixelShuffle", [x], result, {0: size, 1: mode}))


@operator("Expand", "Tile")
def expand(ctx: Context, node: ir.Node) -> None:
    """Tile along each dimension that grows."""
    value, result = need(node, 0), node.outputs[0]
    axes = kept(shape(result))
    full = (1,) * (len(shape(result)) - len(shape(value))) + shape(value)
    x = ctx.view(value, tuple(full[n] for n in axes) or (1,))
    for place, size in enumerate(held(shape(result))):
        if x.dims[place] != size:
            dims = (*x.dims[:place], size, *x.dims[place + 1 :])
            x = ctx.op("Tile", [x], dims, {0: place, 1: size // x.dims[place]})
    ctx.put(result, x)
