"""A 16-bit model as a CPU without 16-bit kernels can run it: float32 operators, each result rounded to 16 bits.

ONNX Runtime runs float16 nodes that it has no kernel for in float32 *without* rounding in between, so its answers on
x86 say nothing of a device that computes in float16. Here every 16-bit value goes through Cast there and back, which
ONNX Runtime keeps. Products are added in float32, as tensor cores and most NPUs do; kernels that add in float16
(ARM's fp16 FMA) err more.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize.half.rewrite import Names, cast


def simulated(model: ir.Model, kind: ir.DataType) -> ir.Model:
    """A float32 copy that gives what the model gives where every operator rounds its result to 16 bits.

    Args:
        model: with values of type `kind`; inputs and outputs may be.
        kind: FLOAT16 or BFLOAT16.
    """
    copy = model.clone()
    names = Names(copy)
    for graph in copy.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype == kind:
                data = value.const_value.numpy().astype(np.float32)
                value.const_value = ir.Tensor(data, name=value.name)
                value.type = ir.TensorType(ir.DataType.FLOAT)
        for node in list(graph):
            _attributes(node, kind)
            for value in node.outputs:
                if value.dtype == kind:
                    _round(graph, node, value, kind, names)
        for value in graph.inputs:
            if value.dtype == kind:
                value.type = ir.TensorType(ir.DataType.FLOAT)
    return copy


def _attributes(node: ir.Node, kind: ir.DataType) -> None:
    to, value = node.attributes.get("to"), node.attributes.get("value")
    if node.op_type == "Cast" and to is not None and to.as_int() == int(kind):
        node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    elif node.op_type == "ConstantOfShape" and value is not None and value.as_tensor().dtype == kind:
        data = value.as_tensor().numpy().astype(np.float32)
        node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(data))


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value, kind: ir.DataType, names: Names) -> None:
    value.type = ir.TensorType(ir.DataType.FLOAT)
    uses = list(value.uses())
    down = cast(value, kind, names.free(f"{value.name}_rounded"))
    up = cast(down.outputs[0], ir.DataType.FLOAT, names.free(f"{value.name}_simulated"))
    graph.insert_after(node, [down, up])
    for use in uses:
        use.node.replace_input_with(use.idx, up.outputs[0])
    for i, output in enumerate(graph.outputs):
        if output is value:
            value.name, up.outputs[0].name = up.outputs[0].name, value.name
            graph.outputs[i] = up.outputs[0]
