"""Conv: CONV_2D and DEPTHWISE_CONV_2D, one spatial axis as two, groups as the kernel runs them."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from edgec_targets.emitters.litert import stems
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.ops import folding, windows
from edgec_targets.emitters.litert.ops.common import activation, bias, reshaped, weight
from edgec_targets.emitters.litert.registry import Fixed, Layout, Refusal, channels_last, identity, operator
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import given, integer, rank, shape


def spatial(node: ir.Node) -> Layout:
    """Channels last, in and out; a folded convolution may read an image as it was given."""
    last = channels_last(rank(node.inputs[0]))
    plan = stems.of(node)
    return Fixed({0: (identity(len(last)) if plan is not None and plan.plain else last,)}, {0: last})


@operator("Conv", layout=spatial, integer=True)
def conv(ctx: Context, node: ir.Node) -> None:
    """Conv. Weights O I/g kH kW become O kH kW I/g, or 1 kH kW O where every channel has its own."""
    x_value, w_value = node.inputs[0], node.inputs[1]
    dims, filters, out = shape(x_value), shape(w_value), shape(node.outputs[0])
    last, groups = channels_last(len(dims)), integer(node, "group", 1)
    window, plan = windows.read(node, dims[2:], filters[2:]), stems.of(node)
    out_size = (1, out[2]) if len(out) == 3 else out[2:]
    depthwise = groups > 1 and groups == dims[1]
    strides = window.strides
    if plan is not None:
        x, w = folding.image(ctx, node, plan), folding.filters(ctx, w_value, plan)
        padding = int(schema().Padding.VALID)
        strides = (1 if plan.height.fold > 1 else strides[0], 1 if plan.width.fold > 1 else strides[1])
    else:
        x, w = _two_axes(ctx, ctx.get(x_value, last)), _filter(ctx, w_value, filters, depthwise)
        x, padding = windows.pad(ctx, x, window, out_size)
    b = bias(ctx, given(node, 2), filters[0], x, w)
    result = ctx.result(node, last, dims=(out[0], *out_size, out[1]))
    common: dict[str, Any] = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": window.dilations[0],
        "dilationWFactor": window.dilations[1],
        "fusedActivationFunction": activation(node),
    }
    if depthwise:
        code, options = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
        common["depthMultiplier"] = filters[0] // dims[1]
    else:
        code, options = "CONV_2D", "Conv2DOptions"
    ctx.op(code, [x, w, b], (), options, out=result, **common)
    ctx.put(node.outputs[0], last, ctx.reshape(result, [out[a] for a in last]))


def _two_axes(ctx: Context, tensor: Tensor) -> Tensor:
    """N L C as N 1 L C."""
    if len(tensor.shape) != 3:
        return tensor
    n, length, channels = tensor.shape
    return ctx.reshape(tensor, (n, 1, length, channels))


def _filter(ctx: Context, value: ir.Value | None, dims: tuple[int, ...], depthwise: bool) -> Tensor:
    """The filter as the kernel wants it; transposed when the model runs where it is computed."""
    raised = (*dims[:2], 1, *dims[2:]) if len(dims) == 3 else dims
    perm: tuple[int, ...] = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
    if len(dims) == 4:
        found = weight(ctx, value, perm)
        return found if found is not None else ctx.transpose(ctx.get(value), perm)
    if len(dims) != 3:
        raise Refusal(f"It has {len(dims) - 2} spatial axes; TFLite's kernel has two.")
    short: tuple[int, ...] = (1, 2, 0) if depthwise else (0, 2, 1)
    found = weight(ctx, value, short)
    if found is None:
        return ctx.transpose(ctx.reshape(ctx.get(value), raised), perm)
    target = tuple(raised[a] for a in perm)
    if found.data is not None:
        return reshaped(found, ctx, target, 3 if depthwise else 0)
    return ctx.reshape(found, target)
