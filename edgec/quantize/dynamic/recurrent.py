"""LSTM with int8 weights as onnxruntime's own DynamicQuantizeLSTM (com.microsoft): in both directions at once too.

Weights W (directions, 4·hidden, input) and R (directions, 4·hidden, hidden) become int8 with one scale a gate row,
stored as (directions, input, 4·hidden); the state and the input are quantized at each step, gates stay float. There is
no such operator for GRU and RNN: they stay float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.arithmetic import quantize_weight
from edgec.quantize.weights.edit import Editor

DOMAIN = "com.microsoft"


def refusal(node: ir.Node) -> str | None:
    """Why an LSTM stays float; None: it can be quantized."""
    for index in (1, 2):
        array = layers.constant(node.inputs[index]) if len(node.inputs) > index else None
        if array is None or array.dtype != np.float32 or array.ndim != 3:
            return "its weights are no float32 constants"
        if not np.isfinite(array).all():
            return "its weights hold NaN or infinity"
    layout = node.attributes.get("layout")
    if layout is not None and layout.as_int():
        return "layout 1"
    return None


def weight_elements(node: ir.Node) -> int:
    """Elements of both weights."""
    return sum(int(np.prod(v.shape.numpy())) for v in node.inputs[1:3] if v is not None and v.shape is not None)


def replace(editor: Editor, node: ir.Node, *, per_channel: bool, limit: int) -> None:
    """Put the integer operator in an LSTM's place; outputs keep their names."""
    inputs: list[ir.Value | None] = list(node.inputs)
    inputs += [None] * (8 - len(inputs))
    tail: list[ir.Value | None] = []
    old = [node.inputs[1], node.inputs[2]]
    for index in (1, 2):
        value, array = inputs[index], layers.constant(inputs[index])
        assert value is not None and array is not None
        rows = array.shape[1]
        data, scales = [], []
        for matrix in array:
            made = quantize_weight(matrix, axis=0 if per_channel else None, qmax=limit)
            data.append(made.data.T)
            scales.append(np.broadcast_to(made.scale, (rows,)) if per_channel else made.scale)
        scale = np.ascontiguousarray(np.stack(scales), np.float32)
        inputs[index] = editor.constant(f"{value.name}_quantized", np.ascontiguousarray(np.stack(data)))
        zeros = np.zeros(scale.shape, np.int8)
        tail += [editor.constant(f"{value.name}_scale", scale), editor.constant(f"{value.name}_zero_point", zeros)]
    attributes = [a for k, a in node.attributes.items() if k != "layout"]
    made_node = ir.Node(DOMAIN, "DynamicQuantizeLSTM", [*inputs, *tail], attributes, num_outputs=len(node.outputs))
    made_node.name = node.name
    editor.graph.insert_before(node, made_node)
    names = [v.name for v in node.outputs]
    for before, after in zip(node.outputs, made_node.outputs, strict=True):
        after.type, after.shape = before.type, before.shape
        ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    editor.graph.remove(node, safe=True)
    for name, after in zip(names, made_node.outputs, strict=True):
        after.name = name
    editor.graph.opset_imports.setdefault(DOMAIN, 1)
    for value in old:
        if value is not None:
            editor.drop(value)
