"""What a model computes with, whatever was asked for: it may come in half precision, or quantized already."""

from __future__ import annotations

import onnx_ir as ir

_INTEGER = ("QuantizeLinear", "DynamicQuantize", "QLinear", "QGemm", "QAttention")


def numbers(model: ir.Model) -> str:
    """The coarsest: "int8" (any integer kernel or Q/DQ), "half" (float16, bfloat16), else "float32"."""
    nodes = list(model.graph.all_nodes())
    if any(node.op_type.startswith(_INTEGER) or node.op_type.endswith("Integer") for node in nodes):
        return "int8"
    half = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    return "half" if any(value.dtype in half for node in nodes for value in node.outputs) else "float32"
