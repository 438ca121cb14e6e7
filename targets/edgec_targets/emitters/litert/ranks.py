"""Operands of elementwise operators get as many axes as the result has, so that a layout of it is one of theirs.

ONNX broadcasts (C, 1, 1) against (N, C, H, W) by putting axes in front. Constants are left alone: the writer fits them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.layout import rule
from edgec_targets.emitters.litert.registry import Tied
from edgec_targets.emitters.litert.values import stored


def align(model: ir.Model) -> None:
    """Put a Reshape before each computed operand with fewer axes, in place. Those of one element stay."""
    graph = model.graph
    done: dict[tuple[ir.Value, int], ir.Value] = {}
    for node in list(graph):
        if not isinstance(rule(node), Tied) or not node.outputs:
            continue
        whole = node.outputs[0].shape
        for index, value in enumerate(node.inputs):
            if value is None or value.shape is None or whole is None or stored(value) is not None:
                continue
            dims = [d for d in value.shape if isinstance(d, int)]
            if len(value.shape) >= len(whole) or len(dims) < len(value.shape) or all(d == 1 for d in dims):
                continue
            key = (value, len(whole))
            if key not in done:
                done[key] = _reshaped(graph, node, value, [1] * (len(whole) - len(dims)) + dims)
            node.replace_input_with(index, done[key])


def _reshaped(graph: ir.Graph, before: ir.Node, value: ir.Value, dims: list[int]) -> ir.Value:
    tensor = ir.Tensor(np.array(dims, np.int64), name=f"{value.name}/axes_{len(dims)}")
    target = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(target)
    node = ir.node("Reshape", [value, target])
    made = node.outputs[0]
    made.name, made.type, made.shape = f"{value.name}/of_{len(dims)}", value.type, ir.Shape(dims)
    graph.insert_before(before, node)
    return made
