"""ConvTranspose: TRANSPOSE_CONV, whose padding is written as a crop where SAME doesn't say it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Quantization, Tensor
from edgec_targets.emitters.litert.ops.common import bias, constant, dequantized
from edgec_targets.emitters.litert.ops.convolution import spatial
from edgec_targets.emitters.litert.registry import Refusal, channels_last, operator
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import array, given, integer, integers, shape

_PERM = (1, 2, 3, 0)
"""I O kH kW → O kH kW I."""


def _integer(node: ir.Node) -> bool:
    return integer(node, "group", 1) == 1


@operator("ConvTranspose", layout=spatial, integer=_integer)
def conv_transpose(ctx: Context, node: ir.Node) -> None:
    """Groups one by one, then concatenated; a dilated filter is written out with its zeros."""
    dims, out = shape(node.inputs[0]), shape(node.outputs[0])
    last, groups = channels_last(len(dims)), integer(node, "group", 1)
    if len(dims) not in (3, 4):
        raise Refusal(f"It has {len(dims) - 2} spatial axes; TFLite's kernel has two.")
    weights, quantization, widen = _weights(ctx, node)
    strides = integers(node, "strides") or [1] * (len(dims) - 2)
    if len(dims) == 3:
        strides = [1, *strides]
    size = (1, out[2]) if len(out) == 3 else out[2:]
    x = ctx.get(node.inputs[0], last)
    if len(dims) == 3:
        x = ctx.reshape(x, (dims[0], 1, dims[2], dims[1]))
    plan = _Plan(
        x.shape[1:3], weights.shape[2:4], strides, size, _before(node, len(dims) - 2, size, x, weights, strides)
    )
    result = ctx.result(node, last, dims=(out[0], *size, out[1]))
    each = dims[1] // groups
    bias_value = given(node, 2)
    together = groups == 1 and not any(plan.grown)  # the kernel adds the bias, to what it computes itself
    parts = []
    for g in range(groups):
        part = x if groups == 1 else _channels(ctx, x, g * each, each)
        own = weights[g * each : (g + 1) * each]
        if quantization is None:
            w = ctx.constant(own.transpose(_PERM))
        elif widen:
            w = dequantized(ctx, own, quantization, _PERM)
        else:
            w = constant(ctx, own, quantization, _PERM)
        b = bias(ctx, bias_value, out[1], part, w) if together else None
        parts.append(_one(ctx, part, w, b, plan, result if together else None))
    if not together:
        if result.dtype != "float32":
            raise Refusal("Its output_padding reaches beyond the filter, between integers.")
        whole = parts[0]
        if groups > 1:
            whole = ctx.op("CONCATENATION", parts, result.shape, "ConcatenationOptions", axis=3)
        data = array(bias_value)
        added = ctx.file.constant(np.zeros(out[1], np.float32) if data is None else data.astype(np.float32))
        ctx.broadcast("ADD", whole, added, result)
    ctx.put(node.outputs[0], last, ctx.reshape(result, [out[a] for a in last]))


class _Plan:
    """Result sizes: of the kernel's own, and where ONNX's result lies in it."""

    def __init__(
        self,
        size: tuple[int, ...],
        kernel: tuple[int, ...],
        strides: list[int],
        out: tuple[int, ...],
        before: list[int],
    ) -> None:
        self.strides, self.out, self.before = strides, out, before
        full = [(n - 1) * s + k for n, s, k in zip(size, strides, kernel, strict=True)]
        # A stride that is longer than the filter, or output_padding, leaves zeros behind the last element.
        self.full = [max(f, b + o) for f, b, o in zip(full, before, out, strict=True)]
        names = schema().Padding
        same = all(
            -(-o // s) == n and max((n - 1) * s + k - o, 0) // 2 == b
            for o, s, n, k, b in zip(out, strides, size, kernel, before, strict=True)
        )
        self.exact = same or (not any(before) and list(out) == full)
        self.padding = int(names.VALID) if not any(before) and list(out) == full else int(names.SAME)
        self.grown = [f - g for f, g in zip(self.full, full, strict=True)]
        self.whole = full


def _before(
    node: ir.Node, axes: int, out: tuple[int, ...], x: Tensor, weights: np.ndarray, strides: list[int]
) -> list[int]:
    """How many elements of the full result lie before ONNX's, for both axes."""
    pads = integers(node, "pads") or [0] * (2 * axes)
    auto = node.attributes.get("auto_pad")
    if integers(node, "output_shape") or (auto is not None and auto.as_string().startswith("SAME")):
        extra = integers(node, "output_padding") or [0] * axes
        extra = [0, *extra] if axes == 1 else extra
        lower = auto is not None and auto.as_string() == "SAME_LOWER"
        result = []
        for n in range(2):
            total = max((x.shape[1 + n] - 1) * strides[n] + extra[n] + weights.shape[2 + n] - out[n], 0)
            result.append(total - total // 2 if lower else total // 2)
        return result
    return [0, pads[0]] if axes == 1 else pads[:2]


def _weights(ctx: Context, node: ir.Node) -> tuple[np.ndarray, Quantization | None, bool]:
    """I O kH kW, with zeros where a dilated filter has none; its quantization; whether the layer is float."""
    value = node.inputs[1]
    producer = value.producer() if value is not None else None
    widen = producer is not None and producer.op_type == "DequantizeLinear"
    if producer is not None and widen:
        value = producer.inputs[0]
    data = array(value)
    if data is None or value is None:
        raise Refusal("Its weights are computed by the model.")
    quantization = ctx.quantities.get(value)
    dilations = integers(node, "dilations") or [1] * (data.ndim - 2)
    if data.ndim == 3:
        data, dilations = data[:, :, None, :], [1, *dilations]
    if any(d != 1 for d in dilations):
        kernel = [(k - 1) * d + 1 for k, d in zip(data.shape[2:], dilations, strict=True)]
        spread = np.zeros((*data.shape[:2], *kernel), data.dtype)
        if data.dtype == np.uint8:
            raise Refusal("It is dilated and its weights are unsigned.")
        spread[:, :, :: dilations[0], :: dilations[1]] = data
        data = spread
    return data, quantization, widen


def _channels(ctx: Context, x: Tensor, start: int, count: int) -> Tensor:
    begin, size = ctx.numbers([0, 0, 0, start]), ctx.numbers([*x.shape[:3], count])
    return ctx.op("SLICE", [x, begin, size], (*x.shape[:3], count), "SliceOptions")


def _one(ctx: Context, x: Tensor, w: Tensor, b: Tensor | None, plan: _Plan, out: Tensor | None) -> Tensor:
    """One group: directly, or the full result cropped and padded."""
    quantization = out.quantization if out is not None else None
    final = out or ctx.file.tensor((x.shape[0], *plan.out, w.shape[0]), x.dtype, quantization)
    sizes = plan.out if plan.exact else plan.whole
    target = final if plan.exact else ctx.file.tensor((x.shape[0], *sizes, w.shape[0]), x.dtype, quantization)
    padding = plan.padding if plan.exact else int(schema().Padding.VALID)
    ctx.file.operate(
        "TRANSPOSE_CONV",
        [ctx.numbers(target.shape), w, x, *([] if b is None else [b])],
        [target],
        "TransposeConvOptions",
        padding=padding,
        strideH=plan.strides[0],
        strideW=plan.strides[1],
    )
    if plan.exact:
        return final
    if any(plan.grown):
        widths = np.array([[0, 0], *((0, g) for g in plan.grown), [0, 0]], np.int32)
        dims = (x.shape[0], *plan.full, w.shape[0])
        target = ctx.op("PAD", [target, ctx.numbers(widths)], dims, "PadOptions")
    begin, size = ctx.numbers([0, *plan.before, 0]), ctx.numbers(final.shape)
    ctx.op("SLICE", [target, begin, size], (), "SliceOptions", out=final)
    return final
