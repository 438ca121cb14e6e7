"""DynamicQuantizeLinear and MatMulInteger: models whose activations are quantized as they run.

TFLite's product of float inputs and int8 weights quantizes its input itself, row by row (ONNX: the whole tensor by one
scale). MatMulInteger's sum of integers is that product divided by the input's scale, which the model multiplies it by
right after. So the input's integers are never made; answers differ from ONNX's by the other rounding, and are nearer to
the float model.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Quantization
from edgec_targets.emitters.litert.ops.products import fully_connected
from edgec_targets.emitters.litert.registry import Refusal, operator
from edgec_targets.emitters.litert.values import constant, given, shape, used


@operator("DynamicQuantizeLinear")
def dynamic_quantize(ctx: Context, node: ir.Node) -> None:
    """The scale alone: (max(x, 0) − min(x, 0)) / 255. The integers are nobody's but MatMulInteger's."""
    if any(use.node.op_type != "MatMulInteger" for n in (0, 2) for use in node.outputs[n].uses()):
        raise Refusal("Something else than MatMulInteger reads its integers.")
    needed = used(node, 1) or used(node, 0)
    if not needed:
        return
    x = ctx.input(node, 0)
    axes = ctx.numbers(range(len(x.shape)))
    high = ctx.op("REDUCE_MAX", [x, axes], (), "ReducerOptions", keepDims=False)
    low = ctx.op("REDUCE_MIN", [x, axes], (), "ReducerOptions", keepDims=False)
    zero = ctx.scalar(0.0)
    span = ctx.broadcast("SUB", ctx.broadcast("MAXIMUM", high, zero), ctx.broadcast("MINIMUM", low, zero))
    least = ctx.scalar(float(np.finfo(np.float32).tiny))  # an input of zeros: any scale will do but zero
    ctx.broadcast("MAXIMUM", ctx.broadcast("MUL", span, ctx.scalar(1 / 255)), least, ctx.result(node, index=1))


@operator("MatMulInteger")
def matmul_integer(ctx: Context, node: ir.Node) -> None:
    """FULLY_CONNECTED of the floats before DynamicQuantizeLinear, divided by its scale."""
    first = node.inputs[0]
    source = first.producer() if first is not None else None
    if source is None or source.op_type != "DynamicQuantizeLinear" or source.outputs[0] is not first:
        raise Refusal("Its first input doesn't come from DynamicQuantizeLinear.")
    if any(use.node.op_type != "Cast" for use in node.outputs[0].uses()) or node.outputs[0].is_graph_output():
        raise Refusal("Its result is used as an integer.")
    data, zero = constant(node, 1, "second input"), constant(node, 3, "zero point")
    if data is None or data.ndim != 2:
        raise Refusal("Its second input isn't a matrix.")
    whole = data.astype(np.int32) - (0 if zero is None else zero.astype(np.int32))
    if whole.min(initial=0) < -128 or whole.max(initial=0) > 127:
        w = ctx.file.constant(np.ascontiguousarray(whole.T, np.float32))
    else:
        channels = data.shape[1]
        quantization = Quantization((1.0,) * channels, (0,) * channels, 0)
        w = ctx.file.constant(np.ascontiguousarray(whole.T.astype(np.int8)), quantization)
    x = ctx.get(given(source, 0))
    bias = ctx.file.constant(np.zeros(data.shape[1], np.float32))
    product = fully_connected(ctx, x, w, bias, None, 0, keep=len(x.shape) > 2)
    made = ctx.broadcast("DIV", product, ctx.get(source.outputs[1]))
    value = node.outputs[0]
    ctx.put(value, tuple(range(len(shape(value)))), made)
    ctx.note(node, "MatMulInteger: the engine quantizes its input row by row, ONNX Runtime the whole tensor")
