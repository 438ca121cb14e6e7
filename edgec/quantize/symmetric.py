"""Symmetric int8 activations as uint8 with zero point 128: the same numbers, for CPUs that multiply u8 by s8 alone.

q + 128 for q is exact: QuantizeLinear saturates at the same values, DequantizeLinear gives the same floats. ONNX
Runtime's own s8·s8 kernels are not used for scoring: on x86 they differ from what the model says.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers


def symmetric_to_u8(model: ir.Model) -> ir.Model:
    """A copy whose int8 activations with zero point 0 are uint8 with zero point 128. Weights stay as they are.

    The copy gives the float outputs of `model` bit for bit wherever Q/DQ are computed as ONNX defines them.
    """
    copy = model.clone()
    made: dict[ir.Value, ir.Value] = {}
    for quantize in [n for n in copy.graph if n.op_type == "QuantizeLinear" and layers.is_onnx(n)]:
        readers = [use.node for use in quantize.outputs[0].uses()]
        if quantize.outputs[0].is_graph_output() or any(n.op_type != "DequantizeLinear" for n in readers):
            continue
        nodes = [quantize, *readers]
        if not all(_zero(n) for n in nodes):
            continue
        for node in nodes:
            old = node.inputs[2]
            assert old is not None
            node.replace_input_with(2, _middle(copy.graph, old, made))
        quantize.outputs[0].type = ir.TensorType(ir.DataType.UINT8)
    for old in made:
        if not old.uses() and old.name is not None and old.name in copy.graph.initializers:
            del copy.graph.initializers[old.name]
    return copy


def _zero(node: ir.Node) -> bool:
    """Whether a Q or DQ has an int8 zero point that is there, and 0."""
    array = layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    return array is not None and array.dtype == np.int8 and not array.any()


def _middle(graph: ir.Graph, old: ir.Value, made: dict[ir.Value, ir.Value]) -> ir.Value:
    if old not in made:
        zero = layers.constant(old)
        assert zero is not None
        name = f"{old.name}_u8"
        while name in graph.initializers:
            name += "_"
        tensor = ir.Tensor(np.full(zero.shape, 128, np.uint8), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        graph.register_initializer(value)
        made[old] = value
    return made[old]
