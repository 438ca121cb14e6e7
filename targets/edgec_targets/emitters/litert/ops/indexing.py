"""Operators that pick elements by index: gathers, the largest, running sums, one-hot."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops.logic import cast_to
from edgec_targets.emitters.litert.registry import PLAIN, Layout, Refusal, Tied, operator
from edgec_targets.emitters.litert.values import array, axis, constant, integer, integers, positive, rank, shape


def _along(node: ir.Node) -> Layout:
    """A constant list of indices leaves the axes where they are."""
    indices = array(node.inputs[1])
    return Tied() if indices is not None and indices.ndim == 1 else PLAIN


def _indices(ctx: Context, value: ir.Value | None, dims: int) -> Tensor:
    """Indices counted from the front: constants at once, computed ones by FLOOR_MOD (−1 is the last)."""
    data = array(value)
    if data is not None:
        return ctx.numbers(np.where(data < 0, data + dims, data))
    found = ctx.get(value)
    return ctx.broadcast("FLOOR_MOD", found, ctx.file.constant(np.asarray(dims, found.dtype)))


@operator("Gather", layout=_along)
def gather(ctx: Context, node: ir.Node) -> None:
    """GATHER."""
    dims = shape(node.inputs[0])
    where = axis(node, 0, len(dims))
    indices = _indices(ctx, node.inputs[1], dims[where])
    if isinstance(_along(node), Tied):
        perm = ctx.perm(node)
        x, out, where = ctx.tied(node, 0), ctx.result(node, perm), perm.index(where)
    else:
        x, out = ctx.input(node, 0), ctx.result(node)
    ctx.op("GATHER", [x, indices], (), "GatherOptions", out=out, axis=where)


@operator("GatherElements")
def gather_elements(ctx: Context, node: ir.Node) -> None:
    """A GATHER from the flattened input, whose indices are worked out."""
    dims, wanted = shape(node.inputs[0]), shape(node.inputs[1])
    where = axis(node, 0, len(dims))
    strides = [int(np.prod(dims[k + 1 :])) for k in range(len(dims))]
    base = np.zeros(wanted, np.int64)
    for k, grid in enumerate(np.indices(wanted)):
        if k != where:
            base += grid * strides[k]
    data = array(node.inputs[1])
    if data is not None:
        flat = ctx.numbers(base + np.where(data < 0, data + dims[where], data) * strides[where])
    else:
        index = cast_to(ctx, _indices(ctx, node.inputs[1], dims[where]), "int32")
        scaled = ctx.broadcast("MUL", index, ctx.file.constant(np.asarray(strides[where], np.int32)))
        flat = ctx.broadcast("ADD", scaled, ctx.numbers(base))
    x = ctx.reshape(ctx.input(node, 0), (int(np.prod(dims)),))
    ctx.op("GATHER", [x, flat], (), "GatherOptions", out=ctx.result(node), axis=0)


@operator("GatherND")
def gather_nd(ctx: Context, node: ir.Node) -> None:
    """GATHER_ND. Batch axes become index columns where the indices are constant."""
    data, dims, batch = array(node.inputs[1]), shape(node.inputs[0]), integer(node, "batch_dims", 0)
    wanted = shape(node.inputs[1])
    if data is not None:
        limits = np.asarray(dims[batch : batch + wanted[-1]])
        data = np.where(data < 0, data + limits, data)
        grid = np.indices(wanted[:-1])[:batch]
        indices = ctx.numbers(np.concatenate([*(g[..., None] for g in grid), data], axis=-1))
    elif batch:
        raise Refusal("Its indices are computed and it has batch axes.")
    else:
        found = ctx.input(node, 1)
        indices = ctx.broadcast("FLOOR_MOD", found, ctx.file.constant(np.asarray(dims[: wanted[-1]], found.dtype)))
    ctx.op("GATHER_ND", [ctx.input(node, 0), indices], (), "GatherNdOptions", out=ctx.result(node))


@operator("ScatterND")
def scatter_nd(ctx: Context, node: ir.Node) -> None:
    """By constant indices: SCATTER_ND into zeros, then the data where nothing was written."""
    indices, dims = constant(node, 1, "list of indices"), shape(node.inputs[0])
    reduction = node.attributes.get("reduction")
    if indices is None or (reduction is not None and reduction.as_string() != "none"):
        raise Refusal("It sums or compares at the indices.")
    indices = np.where(indices < 0, indices + np.asarray(dims[: indices.shape[-1]]), indices)
    if len(np.unique(indices.reshape(-1, indices.shape[-1]), axis=0)) != indices.size // indices.shape[-1]:
        raise Refusal("Some of its indices are the same.")
    written = np.zeros(dims, np.bool_)
    written[tuple(np.moveaxis(indices, -1, 0))] = True
    updates = ctx.input(node, 2)
    made = ctx.op(
        "SCATTER_ND", [ctx.numbers(indices), updates, ctx.numbers(dims)], dims, "ScatterNdOptions", dtype=updates.dtype
    )
    chosen = [ctx.file.constant(written), made, ctx.input(node, 0)]
    ctx.op("SELECT_V2", chosen, (), "SelectV2Options", out=ctx.result(node))


@operator("ArgMax", "ArgMin")
def extreme(ctx: Context, node: ir.Node) -> None:
    """ARG_MAX, ARG_MIN."""
    dims = shape(node.inputs[0])
    where = axis(node, 0, len(dims))
    code = "ARG_MAX" if node.op_type == "ArgMax" else "ARG_MIN"
    kept = bool(integer(node, "keepdims", 1))
    out = ctx.result(node)
    short = [d for k, d in enumerate(dims) if k != where]
    target = ctx.file.tensor(short, "int64") if kept else out
    options = "ArgMaxOptions" if code == "ARG_MAX" else "ArgMinOptions"
    at = ctx.file.constant(np.asarray(where, np.int32))
    x, wanted = ctx.input(node, 0), target
    last = bool(integer(node, "select_last_index", 0))
    if last:  # the first of equals, counted from the other end
        x = ctx.op("REVERSE_V2", [x, ctx.numbers([where])], x.shape, "ReverseV2Options")
        wanted = ctx.file.tensor(short, "int64")
    ctx.op(code, [x, at], (), options, out=wanted, outputType=_int64())
    if last:
        ctx.broadcast("SUB", ctx.file.constant(np.asarray(dims[where] - 1, np.int64)), wanted, target)
    if kept:
        ctx.reshape(target, out.shape, out)


def _int64() -> int:
    from edgec_targets.emitters.litert.schema import schema

    return int(schema().TensorType.INT64)


@operator("TopK", layout=lambda node: Tied(last=axis(node, -1, rank(node.inputs[0]))))
def top_k(ctx: Context, node: ir.Node) -> None:
    """TOPK_V2 along the layout's last axis; the smallest are the largest of the negated."""
    perm, x = ctx.perm(node), ctx.tied(node, 0)
    k = constant(node, 1, "k")
    if k is None or x.dtype not in ("float32", "int32", "int8"):
        raise Refusal(f"TFLite's TOPK_V2 doesn't take {x.dtype}.")
    largest = bool(integer(node, "largest", 1))
    values, indices = ctx.result(node, perm, 0), ctx.result(node, perm, 1)
    if not largest:
        x = ctx.unary("NEG", x, None, "NegOptions")
    found = values if largest else ctx.file.tensor(values.shape, values.dtype)
    places = ctx.file.tensor(indices.shape, "int32")
    count = ctx.file.constant(np.asarray(int(k.reshape(())), np.int32))
    ctx.file.operate("TOPK_V2", [x, count], [found, places], "TopKV2Options")
    if not largest:
        ctx.unary("NEG", found, values, "NegOptions")
    ctx.op("CAST", [places], (), "CastOptions", out=indices)


@operator("CumSum", layout=Tied())
def running_sum(ctx: Context, node: ir.Node) -> None:
    """CUMSUM."""
    perm, where = ctx.perm(node), integers(node, "axis", 1)
    assert where is not None
    at = perm.index(positive(where, len(perm))[0])
    flags: dict[str, Any] = {
        "exclusive": bool(integer(node, "exclusive", 0)),
        "reverse": bool(integer(node, "reverse", 0)),
    }
    at_tensor = ctx.file.constant(np.asarray(at, np.int32))
    ctx.op("CUMSUM", [ctx.tied(node, 0), at_tensor], (), "CumsumOptions", out=ctx.result(node, perm), **flags)


@operator("OneHot")
def one_hot(ctx: Context, node: ir.Node) -> None:
    """ONE_HOT."""
    depth, values = constant(node, 1, "depth"), constant(node, 2, "pair of values")
    assert depth is not None and values is not None
    count, out = int(depth.reshape(())), ctx.result(node)
    found = cast_to(ctx, ctx.input(node, 0), "int32")
    zero, depth_tensor = (ctx.file.constant(np.asarray(n, np.int32)) for n in (0, count))
    # Counted from the end if negative; what lies outside even then gives a row of "off".
    below = ctx.op("LESS", [found, zero], found.shape, "LessOptions", dtype="bool")
    wrapped = [below, ctx.broadcast("ADD", found, depth_tensor), found]
    found = ctx.op("SELECT_V2", wrapped, found.shape, "SelectV2Options", dtype="int32")
    on, off = (ctx.file.constant(np.asarray(v, out.dtype)) for v in (values[1], values[0]))
    where = axis(node, -1, len(out.shape))
    last = where == len(out.shape) - 1
    ctx.op("ONE_HOT", [found, depth_tensor, on, off], (), "OneHotOptions", out=out, axis=-1 if last else where)
