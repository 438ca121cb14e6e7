"""QuantizeLinear and DequantizeLinear that stayed: where a model goes from float to integers and back."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.ops.common import dequantized
from edgec_targets.emitters.litert.registry import Refusal, Tied, identity, operator
from edgec_targets.emitters.litert.values import array

_FIX = (
    "Quantize with 8 bits, one constant scale and zero point a tensor (activations), symmetric a channel (weights); "
    "activations of 16 bits need zero point 0 (int16x8)."
)


@operator("QuantizeLinear", layout=Tied())
def quantize(ctx: Context, node: ir.Node) -> None:
    """QUANTIZE: round to even and saturate, as ONNX has it."""
    if not ctx.quantized(node.outputs[0]):
        raise Refusal(
            "Its scale or zero point isn't one constant a tensor, or it isn't of 8 bits, nor 16 around zero.", _FIX
        )
    x = ctx.tied(node, 0)
    ctx.op("QUANTIZE", [x], (), "QuantizeOptions", out=ctx.result(node, ctx.perm(node)))


@operator("DequantizeLinear", layout=Tied())
def dequantize(ctx: Context, node: ir.Node) -> None:
    """DEQUANTIZE; of a constant, the engine does it once, at load."""
    source = node.inputs[0]
    if source is None or not ctx.quantized(source):
        raise Refusal(
            "Its scale or zero point isn't one constant a tensor, or it isn't of 8 bits, nor 16 around zero.", _FIX
        )
    data = array(source)
    if data is not None:
        plain = identity(data.ndim)
        ctx.put(node.outputs[0], plain, dequantized(ctx, data, ctx.quantities[source], plain))
        return
    ctx.op("DEQUANTIZE", [ctx.tied(node, 0)], (), "DequantizeOptions", out=ctx.result(node, ctx.perm(node)))
