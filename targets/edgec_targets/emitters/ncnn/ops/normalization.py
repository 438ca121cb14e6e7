"""Normalizations and softmax."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Blob, Context
from edgec_targets.emitters.ncnn.file import Weights
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import (
    integer,
    need,
    optional_weights,
    real,
    shape,
    used,
    weights,
)  # fmt: skip


def _plain(values: np.ndarray) -> Weights:
    return Weights(values.ravel(), tagged=False)


def _channels(ctx: Context, value: ir.Value) -> Blob:
    """[1, C, …] with C outermost."""
    dims = shape(value)
    if len(dims) < 2 or dims[0] != 1:
        raise Refusal(f"It normalizes a value of shape {list(dims)}; ncnn takes one at a time.")
    if len(dims) > 5:
        raise Refusal(f"A value of shape {list(dims)} has more dimensions than ncnn's four.")
    return ctx.view(value, dims[1:])


@operator("BatchNormalization")
def batch(ctx: Context, node: ir.Node) -> None:
    """BatchNorm; `fusion` folds it into the convolution before it."""
    if integer(node, "training_mode"):
        raise Refusal("It is in training mode.")
    x = _channels(ctx, need(node, 0))
    slope, bias, mean, variance = (weights(node, n, "statistics") for n in (1, 2, 3, 4))
    params = {0: slope.size, 1: real(node, "epsilon", 1e-5)}
    stored = [_plain(values) for values in (slope, mean, variance, bias)]
    ctx.put(node.outputs[0], ctx.op("BatchNorm", [x], x.dims, params, stored))


@operator("InstanceNormalization")
def instance(ctx: Context, node: ir.Node) -> None:
    """InstanceNorm of C × H × W; an axis is made where there is one spatial axis only."""
    x = _channels(ctx, need(node, 0))
    scale, bias = weights(node, 1, "scale"), weights(node, 2, "bias")
    x = ctx.reshape(x, (x.dims[0], 1, x.dims[1])) if len(x.dims) == 2 else x
    params = {0: scale.size, 1: real(node, "epsilon", 1e-5), 2: 1}
    ctx.put(node.outputs[0], ctx.op("InstanceNorm", [x], x.dims, params, [_plain(scale), _plain(bias)]))


@operator("GroupNormalization")
def group(ctx: Context, node: ir.Node) -> None:
    """GroupNorm, with one scale and bias a channel (ONNX from opset 21 on)."""
    x = _channels(ctx, need(node, 0))
    scale, bias = weights(node, 1, "scale"), weights(node, 2, "bias")
    if scale.size != x.dims[0]:
        raise Refusal("It has one scale a group, as before opset 21.", "Export it with opset 21.")
    params = {0: integer(node, "num_groups", 1), 1: x.dims[0], 2: real(node, "epsilon", 1e-5), 3: 1}
    ctx.put(node.outputs[0], ctx.op("GroupNorm", [x], x.dims, params, [_plain(scale), _plain(bias)]))


@operator("LayerNormalization")
def layer(ctx: Context, node: ir.Node) -> None:
    """LayerNorm over the last axis, or the last ones as one."""
    dims = shape(need(node, 0))
    axis = integer(node, "axis", -1) % len(dims)
    if used(node, 1) or used(node, 2):
        raise Refusal("Its mean or deviation is used as well.")
    scale = weights(node, 1, "scale")
    bias = optional_weights(node, 2, "bias")
    size = int(np.prod(dims[axis:]))
    if scale.size != size:
        raise Refusal(f"Its scale has the shape {list(scale.shape)}, not that of what it normalizes.")
    bias = np.zeros(size, np.float32) if bias is None else bias
    x = ctx.view(need(node, 0), (int(np.prod(dims[:axis])), size))
    params = {0: size, 1: real(node, "epsilon", 1e-5), 2: 1}
    ctx.put(node.outputs[0], ctx.op("LayerNorm", [x], x.dims, params, [_plain(scale), _plain(bias)]))


@operator("LRN")
def local_response(ctx: Context, node: ir.Node) -> None:
    """LRN across channels."""
    x = _channels(ctx, need(node, 0))
    if len(x.dims) != 3 or integer(node, "size") % 2 == 0:
        raise Refusal("It is not over an odd number of channels of one image.")
    params = {0: 0, 1: integer(node, "size"), 2: real(node, "alpha", 1e-4), 3: real(node, "beta", 0.75)}
    params[4] = real(node, "bias", 1.0)
    ctx.put(node.outputs[0], ctx.op("LRN", [x], x.dims, params))


@operator("Softmax", "LogSoftmax")
def softmax(ctx: Context, node: ir.Node) -> None:
    """Softmax along one dimension."""
    value = need(node, 0)
    x = ctx.standard(value)
    axis = ctx.axis(value, integer(node, "axis", -1))
    if axis is None:
        raise Refusal("It is along an axis of one element.")
    result = ctx.op("Softmax", [x], x.dims, {0: axis, 1: 1})
    if node.op_type == "LogSoftmax":
        result = ctx.op("UnaryOp", [result], x.dims, {0: 8})
    ctx.put(node.outputs[0], result)


@operator("LpNormalization")
def lp(ctx: Context, node: ir.Node) -> None:
    """x over its L1 or L2 norm along an axis."""
    value = need(node, 0)
    x = ctx.standard(value)
    axis = ctx.axis(value, integer(node, "axis", -1))
    order = integer(node, "p", 2)
    if axis is None or order not in (1, 2):
        raise Refusal("It is along an axis of one element, or of another norm than 1 and 2.")
    dims = tuple(1 if n == axis else d for n, d in enumerate(x.dims))
    norm = ctx.op("Reduction", [x], dims, {0: 6 + order, 1: 0, 3: [axis], 4: 1, 5: 1})
    ctx.put(node.outputs[0], ctx.op("BinaryOp", [x, norm], x.dims, {0: 3}))
