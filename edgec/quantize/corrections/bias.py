"""The bias of a quantized layer: int32 with scale activation scale · weight scale, or float where engines want it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers


def layer_scales(node: ir.Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(activation scale, weight scale) of a layer whose input and weight are both dequantized, else None."""
    scales = []
    for value in node.inputs[:2]:
        producer = value.producer() if value is not None else None
        if producer is None or producer.op_type != "DequantizeLinear":
            return None
        scale = layers.constant(producer.inputs[1])
        if scale is None:
            return None
        scales.append(scale)
    return scales[0], scales[1]


def float_bias(node: ir.Node, channels: int) -> np.ndarray | None:
    """A layer's bias, float64 (channels,); zeros where there is none; None where it is no constant."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return np.zeros(channels)
    producer = value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        array = layers.constant(value)
        return None if array is None else np.broadcast_to(array.astype(np.float64), (channels,))
    integers, scale = layers.constant(producer.inputs[0]), layers.constant(producer.inputs[1])
    if integers is None or scale is None:
        return None
    return np.broadcast_to(integers * scale.astype(np.float64), (channels,))


def shift_bias(graph: ir.Graph, node: ir.Node, difference: np.ndarray) -> np.ndarray:
    """Add a difference (output units, per channel) to a layer's bias; returns what was added after rounding."""
    floating = layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if floating is not None:  # an engine that wants float biases; `insert` gave each layer one of its own
        value = node.inputs[2]
        assert value is not None and floating.shape == difference.shape
        value.const_value = ir.Tensor((floating + difference).astype(np.float32), name=value.name)
        return difference
    scales = layer_scales(node)
    assert scales is not None and node.inputs[1] is not None
    scale = np.broadcast_to(np.float32(scales[0]) * scales[1].astype(np.float32), difference.shape)
    steps = np.rint(difference / scale.astype(np.float64))
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    producer = bias.producer() if bias is not None else None
    old = layers.constant(producer.inputs[0]) if producer is not None else np.zeros(difference.shape, np.int32)
    if old is None:
        return np.zeros(difference.shape)
    new = np.clip(old.astype(np.float64) + steps, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    name = f"{node.outputs[0].name}_bias"
    while f"{name}_quantized" in graph.initializers:
        name += "_"
    inputs = []
    arrays = {"quantized": new, "scale": np.array(scale)}
    for part, array in arrays.items():
        tensor = ir.Tensor(array, name=f"{name}_{part}")
        value = ir.Value(
            name=tensor.name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
        )
        graph.register_initializer(value)
        inputs.append(value)
    # A dequantizer of its own: the old one may be shared with another layer, whose shift is another.
    dequantize = ir.Node("", "DequantizeLinear", inputs, [ir.AttrInt64("axis", 0)], name=f"{name}_dequantized")
    dequantize.outputs[0].name, dequantize.outputs[0].dtype = dequantize.name, ir.DataType.FLOAT
    graph.insert_before(node, dequantize)
    if bias is None:
        node.resize_inputs(3)
    node.replace_input_with(2, dequantize.outputs[0])
    if producer is not None and not producer.outputs[0].uses():
        unused = [v for v in producer.inputs if v is not None]
        graph.remove(producer, safe=True)
        for value in unused:
            if not value.uses() and value.name is not None and value.name in graph.initializers:
                del graph.initializers[value.name]
    return (new.astype(np.float64) - old) * scale
