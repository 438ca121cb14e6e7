"""Reading QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.file import Quantization
from edgec_targets.emitters.litert.values import array, integer

_WIDE = (ir.DataType.INT16, ir.DataType.UINT16)
_MIDDLES = {ir.DataType.UINT8: 128, ir.DataType.UINT16: 1 << 15}
"""What is taken from unsigned integers: the file's are signed."""


def parameters(node: ir.Node) -> Quantization | None:
    """What a Q or DQ node says, in terms of int8 for uint8 data; None where it isn't constant, or not of 8 bits.

    int32 (biases) is fine too, and 16 bits with their zero in the middle: all that TFLite's int16x8 kernels take.
    """
    scale = array(node.inputs[1])
    if scale is None or integer(node, "block_size", 0):
        return None
    zero_input = node.inputs[2] if len(node.inputs) > 2 else None
    zero = array(zero_input) if zero_input is not None else np.zeros(scale.shape, np.uint8)
    data = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    if zero is None or data is None:
        return None
    # The zero point has the data's type; without one, the data say it, or it is uint8.
    kind = ir.DataType.from_numpy(zero.dtype) if zero_input is not None else data.dtype or ir.DataType.UINT8
    if kind not in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32, *_WIDE):
        return None
    points = zero.astype(np.int64).reshape(-1) - _MIDDLES.get(kind, 0)
    if kind in _WIDE and points.any():
        return None
    axis = integer(node, "axis", 1) if scale.size > 1 else 0
    if axis < 0 and data.shape is not None:
        axis += len(data.shape)
    bits = 16 if kind in _WIDE else 8
    return Quantization(tuple(float(s) for s in scale.reshape(-1)), tuple(int(z) for z in points), axis, bits)


def is_op(node: ir.Node | None, name: str) -> bool:
    """Whether a node is ONNX's own operator of that name."""
    return node is not None and node.op_type == name and node.domain in ("", "ai.onnx")


def single(node: ir.Node) -> Quantization | None:
    """Parameters of a node that has one scale for the whole tensor."""
    found = parameters(node)
    return found if found is not None and len(found.scale) == 1 else None


def remove_if_unused(graph: ir.Graph, node: ir.Node) -> None:
    """Take a node out of the graph if nobody reads its results."""
    if not any(o.uses() or o.is_graph_output() for o in node.outputs):
        graph.remove(node, safe=True)
