"""Pools, of windows and of whole images. ONNX's rounding up becomes padding at the ends."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Context
from edgec_targets.emitters.ncnn.file import Dims
from edgec_targets.emitters.ncnn.ops.convolution import padding
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import integer, integers, need, shape, used

_MAX, _AVERAGE = 0, 1
_VALID = 1  # pad_mode: only what is said
_KEYS = {"kernel": (1, 11), "stride": (2, 12), "begin": (3, 13), "end": (14, 15)}


def image(value: ir.Value) -> Dims:
    """The dimensions of one image: channels and one or two spatial axes."""
    dims = shape(value)
    if len(dims) not in (3, 4) or dims[0] != 1:
        raise Refusal(f"It pools a value of shape {list(dims)}; one image with one or two axes is written.")
    return dims[1:]


@operator("MaxPool", "AveragePool")
def pool(ctx: Context, node: ir.Node) -> None:
    """Pooling and Pooling1D with explicit padding."""
    dims = image(need(node, 0))
    after = image(node.outputs[0])
    spatial = len(dims) - 1
    size = tuple(integers(node, "kernel_shape", []))
    strides = integers(node, "strides", [1] * spatial)
    dilations = integers(node, "dilations", [1] * spatial)
    average = node.op_type == "AveragePool"
    if dilations != [1] * spatial:
        raise Refusal("Its window is dilated.")
    if used(node, 1):
        raise Refusal("It gives the places of the maxima as well.")
    pads = padding(node, size, strides, dilations, dims[1:], after[1:])
    include = bool(integer(node, "count_include_pad"))
    params: dict[int, int] = {0: _AVERAGE if average else _MAX, 5: _VALID, 6: int(average and include)}
    for n in range(spatial):
        place = spatial - 1 - n
        end = max((after[1 + n] - 1) * strides[n] + size[n] - dims[1 + n] - pads[n], 0)
        if end > pads[spatial + n] and average and include:
            raise Refusal("It rounds its size up and counts padding, but not what rounding adds.")
        end = max(end, min(pads[spatial + n], end))
        params |= {_KEYS["kernel"][place]: size[n], _KEYS["stride"][place]: strides[n]}
        params |= {_KEYS["begin"][place]: pads[n], _KEYS["end"][place]: end}
    kind = "Pooling1D" if spatial == 1 else "Pooling"
    ctx.put(node.outputs[0], ctx.op(kind, [ctx.view(need(node, 0), dims)], after, params))


@operator("GlobalAveragePool", "GlobalMaxPool")
def whole(ctx: Context, node: ir.Node) -> None:
    """Pooling over the whole image: one number a channel."""
    dims = image(need(node, 0))
    kind = "Pooling1D" if len(dims) == 2 else "Pooling"
    which = _AVERAGE if node.op_type == "GlobalAveragePool" else _MAX
    blob = ctx.op(kind, [ctx.view(need(node, 0), dims)], (dims[0],), {0: which, 4: 1})
    ctx.put(node.outputs[0], blob)
