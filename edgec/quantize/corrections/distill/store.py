"""Writing what was learned back into the quantized graph, under the names that are there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.arithmetic import TINY
from edgec.quantize.corrections.distill.program import Program


def store(quantized: ir.Model, program: Program) -> None:
    """Replace integers, biases and scales in place; every int32 bias follows its layer's new scale."""
    old = {value: layers.constant(value) for value in program.scales}
    for value, theta in program.scales.items():
        array = old[value]
        assert array is not None
        _set(value, np.maximum(array * np.float32(np.exp(theta.item())), np.float32(TINY)))
    for trained in program.trained:
        dequantize = _producer(trained.node.inputs[1])
        if trained.weight is not None:
            made = trained.weight.detach().round().clamp(-trained.limit, trained.limit).numpy().astype(np.int8)
            _set(dequantize.inputs[0], made)
        if (bias := trained.shifted()) is not None:
            _bias(trained.node, bias.detach().numpy())
    learned = {t.node for t in program.trained if t.bias is not None}
    for node in quantized.graph:  # layers outside the program that read a scale which changed
        if node not in learned and layers.is_onnx(node) and node.op_type in layers.WEIGHTED and len(node.inputs) > 2:
            source = node.inputs[0].producer() if node.inputs[0] is not None else None
            if source is not None and source.op_type == "DequantizeLinear" and source.inputs[1] in old:
                before = old[source.inputs[1]]
                assert before is not None
                _rescale(node, before)


def _bias(node: ir.Node, bias: np.ndarray) -> None:
    value = node.inputs[2]
    assert value is not None
    producer = value.producer()
    if producer is None or producer.op_type != "DequantizeLinear":
        _set(value, bias.astype(np.float32))
        return
    scale, old = _bias_scale(node), layers.constant(producer.inputs[1])
    assert old is not None
    steps = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    _set(producer.inputs[0], np.clip(steps, -(2**31) + 1, 2**31 - 1).astype(np.int32))
    _set(producer.inputs[1], np.broadcast_to(scale, max(old.size, 1)).reshape(old.shape).astype(np.float32))


def _rescale(node: ir.Node, before: np.ndarray) -> None:
    """A bias whose value stays while its scale changes."""
    producer = node.inputs[2].producer() if node.inputs[2] is not None else None
    if producer is None or producer.op_type != "DequantizeLinear":
        return
    integers, scale = layers.constant(producer.inputs[0]), layers.constant(producer.inputs[1])
    assert integers is not None and scale is not None
    _bias(node, (integers * scale.astype(np.float64)).astype(np.float64))


def _bias_scale(node: ir.Node) -> np.ndarray:
    source, weight = _producer(node.inputs[0]), _producer(node.inputs[1])
    scales = layers.constant(source.inputs[1]), layers.constant(weight.inputs[1])
    assert scales[0] is not None and scales[1] is not None
    return np.asarray(np.float32(scales[0].reshape(())) * scales[1].astype(np.float32)).reshape(-1)


def _producer(value: ir.Value | None) -> ir.Node:
    producer = None if value is None else value.producer()
    assert producer is not None
    return producer


def _set(value: ir.Value | None, array: np.ndarray) -> None:
    assert value is not None
    value.const_value = ir.Tensor(np.array(array, order="C"), name=value.name)  # a scalar stays one
