"""Convolutions and transposed convolutions of one and two spatial axes.

Weights lie as ONNX has them, outputs × inputs × kernel; a transposed convolution's are outputs × inputs as well, where
ONNX has inputs × outputs. A 1 × 1 convolution of one pixel is a matrix product, which ncnn runs faster.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Blob, Context
from edgec_targets.emitters.ncnn.file import Dims, Weights
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import (
    integer,
    integers,
    need,
    optional_weights,
    shape,
    text,
    weights,
)  # fmt: skip

_KEYS = {"kernel": (1, 11), "dilation": (2, 12), "stride": (3, 13), "begin": (4, 14), "end": (15, 16)}
"""Keys of the parameters of the last axis and of the one before it."""


@operator("Conv")
def convolution(ctx: Context, node: ir.Node) -> None:
    """Convolution, ConvolutionDepthWise (any groups), and both of one axis; InnerProduct for 1 × 1 of one pixel."""
    dims = _image(need(node, 0))
    kernel = weights(node, 1, "weights")
    bias = optional_weights(node, 2, "bias")
    group = integer(node, "group", 1)
    result = _result(node)
    spatial = len(dims) - 1
    if group == 1 and math.prod(kernel.shape[2:]) == 1 and math.prod(dims[1:]) == 1 and math.prod(result[1:]) == 1:
        x = ctx.view(need(node, 0), dims[:1])
        ctx.put(node.outputs[0], product(ctx, x, kernel.reshape(kernel.shape[0], -1), bias))
        return
    x = ctx.view(need(node, 0), dims)
    params = _window(node, kernel.shape[2:], dims[1:], result[1:])
    params |= {0: kernel.shape[0], 5: int(bias is not None), 6: kernel.size}
    kind = "Convolution" if group == 1 else "ConvolutionDepthWise"
    if group != 1:
        params[7] = group
    stored = [Weights(kernel, tagged=True), *([] if bias is None else [Weights(bias, tagged=False)])]
    ctx.put(node.outputs[0], ctx.op(kind + _suffix(spatial), [x], result, params, stored))


@operator("ConvTranspose")
def transposed(ctx: Context, node: ir.Node) -> None:
    """Deconvolution, of any groups; ONNX's output shape is met by cropping the ends."""
    dims = _image(need(node, 0))
    x = ctx.view(need(node, 0), dims)
    kernel = weights(node, 1, "weights")
    bias = optional_weights(node, 2, "bias")
    group = integer(node, "group", 1)
    result = _result(node)
    spatial = len(dims) - 1
    size = kernel.shape[2:]
    strides = integers(node, "strides", [1] * spatial)
    dilations = integers(node, "dilations", [1] * spatial)
    pads = integers(node, "pads", [0] * 2 * spatial)
    if text(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes:
        raise Refusal("Its padding follows from its output's shape.", "Write its pads out (--simplify does).")
    params: dict[int, int] = {0: result[0], 5: int(bias is not None), 6: kernel.size}
    for n in range(spatial):
        full = (dims[1 + n] - 1) * strides[n] + dilations[n] * (size[n] - 1) + 1
        beyond = result[1 + n] - (full - pads[n] - pads[spatial + n])
        end = pads[spatial + n] - beyond  # a negative end is ncnn's output padding
        if pads[n] < 0:
            raise Refusal("It has negative padding.")
        place = spatial - 1 - n
        values = {
            "kernel": size[n],
            "dilation": dilations[n],
            "stride": strides[n],
            "begin": pads[n],
            "end": max(end, 0),
        }
        params |= {_KEYS[what][place]: value for what, value in values.items()}
        params[18 + place] = max(-end, 0)
    per_group = kernel.reshape(group, kernel.shape[0] // group, *kernel.shape[1:]).swapaxes(1, 2)
    kind = "Deconvolution" if group == 1 else "DeconvolutionDepthWise"
    if group != 1:
        params[7] = group
    stored = [Weights(np.ascontiguousarray(per_group), tagged=True)]
    stored += [] if bias is None else [Weights(bias, tagged=False)]
    ctx.put(node.outputs[0], ctx.op(kind + _suffix(spatial), [x], result, params, stored))


def product(ctx: Context, x: Blob, matrix: np.ndarray, bias: np.ndarray | None) -> Blob:
    """x (…, K) times a constant matrix (N, K), plus a bias (N,): one InnerProduct."""
    stored = [Weights(matrix, tagged=True), *([] if bias is None else [Weights(bias, tagged=False)])]
    params = {0: matrix.shape[0], 1: int(bias is not None), 2: matrix.size}
    return ctx.op("InnerProduct", [x], (*x.dims[:-1], matrix.shape[0]), params, stored)


def _image(value: ir.Value) -> Dims:
    """C and the spatial axes of a value of shape [1, C, …]."""
    dims = shape(value)
    if dims[0] != 1:
        raise Refusal(f"It takes a batch of {dims[0]}; ncnn takes one at a time.", "Give a batch of 1 with --shape.")
    if len(dims) not in (3, 4):
        raise Refusal(f"It has {len(dims) - 2} spatial axes; one and two are written.")
    return dims[1:]


def _result(node: ir.Node) -> Dims:
    return shape(node.outputs[0])[1:]


def _suffix(spatial: int) -> str:
    return "1D" if spatial == 1 else ""


def _window(node: ir.Node, size: Dims, before: Dims, after: Dims) -> dict[int, int]:
    """Kernel, strides, dilations and explicit padding."""
    spatial = len(size)
    strides = integers(node, "strides", [1] * spatial)
    dilations = integers(node, "dilations", [1] * spatial)
    pads = padding(node, size, strides, dilations, before, after)
    params: dict[int, int] = {}
    for n in range(spatial):
        place = spatial - 1 - n
        values = {"kernel": size[n], "dilation": dilations[n], "stride": strides[n], "begin": pads[n]}
        params |= {_KEYS[what][place]: value for what, value in values.items()}
        params[_KEYS["end"][place]] = pads[spatial + n]
    return params


def padding(
    node: ir.Node, size: Dims, strides: list[int], dilations: list[int], before: Dims, after: Dims
) -> list[int]:
    """The padding that a node has, begins then ends; "SAME" worked out."""
    spatial = len(size)
    auto = text(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * 2 * spatial
    if auto == "NOTSET":
        pads = integers(node, "pads", [0] * 2 * spatial)
        if min(pads) < 0:
            raise Refusal("It has negative padding.")
        return pads
    begins, ends = [], []
    for n in range(spatial):
        total = max((after[n] - 1) * strides[n] + dilations[n] * (size[n] - 1) + 1 - before[n], 0)
        small = total // 2
        begins.append(total - small if auto == "SAME_LOWER" else small)
        ends.append(total - begins[-1])
    return begins + ends
