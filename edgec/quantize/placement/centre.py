"""ReLU6 outputs moved to the middle of a symmetric range, at no cost and without changing what the model computes.

A symmetric int8 scale spends half of its steps on values that a ReLU6 never gives: seven bits are left. Where every
consumer is a layer without padding (a 1×1 convolution, a Gemm; means and reshapes between don't matter), a constant may
move between layers instead: clip(y, 0, 6) − 3 = clip(y − 3, −3, 3), so −3 goes into the bias before, the bounds become
±3, and the bias behind takes 3 · ΣW. Padding would bring in zeros that mean 3, so padded layers are left alone.
The idea is the one of zero points themselves (Jacob et al. 2018, arXiv:1712.05877, section 2.3), folded ahead of time.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers

# y ↦ op(y − c) = op(y) − c.
_SHIFTED_ALONG = frozenset({"Flatten", "GlobalAveragePool", "Identity", "ReduceMean", "Reshape", "Squeeze"})


def centre(model: ir.Model) -> ir.Model:
    """A copy in which bounded activations between unpadded layers are symmetric about zero; the model where none are.

    Names stay.

    Args:
        model: float model; its Clip bounds are constants (opset ≥ 11).
    """
    copy, moved = model.clone(), False
    graph = copy.graph
    for clip in [n for n in graph if n.op_type == "Clip" and layers.is_onnx(n)]:
        bounds, source = layers.clip_bounds(clip), clip.inputs[0]
        producer = source.producer() if source is not None else None
        if bounds is None or not np.isfinite(bounds).all() or bounds[0] == -bounds[1] or producer is None:
            continue
        if len(producer.outputs[0].uses()) != 1 or producer.outputs[0].is_graph_output() or not _biased(producer):
            continue
        consumers = _consumers(clip)
        if consumers is None:
            continue
        moved = True
        middle = (bounds[0] + bounds[1]) / 2
        _add_to_bias(graph, producer, np.float64(-middle))
        for i, bound in ((1, bounds[0] - middle), (2, bounds[1] - middle)):
            clip.replace_input_with(i, _constant(graph, f"{clip.outputs[0].name}_bound{i}", np.float32(bound)))
        for consumer in consumers:
            _add_to_bias(graph, consumer, middle * _sums(consumer))
    return copy if moved else model


def _consumers(clip: ir.Node) -> list[ir.Node] | None:
    """The layers whose biases can take the constant back; None where some consumer can't."""
    found: dict[ir.Node, None] = {}
    pending = list(clip.outputs)
    while pending:
        value = pending.pop()
        if value.is_graph_output() or not value.uses():
            return None
        for use in value.uses():
            node = use.node
            if node.graph is not clip.graph or not layers.is_onnx(node) or use.idx != 0:
                return None
            if node.op_type in _SHIFTED_ALONG:
                pending += node.outputs
            elif _biased(node) and not _padded(node):
                found[node] = None
            else:
                return None
    return list(found)


def _biased(node: ir.Node) -> bool:
    """Whether it is a Conv or Gemm with a constant weight and a bias that is constant, one value a channel, or none."""
    if node.op_type not in ("Conv", "Gemm") or layers.weight_of(node) is None:
        return False
    weight = layers.constant(node.inputs[1])
    assert weight is not None
    if node.op_type == "Gemm" and any(
        (a := node.attributes.get(k)) is not None and a.value != plain
        for k, plain in (("transA", 0), ("alpha", 1.0), ("beta", 1.0))
    ):
        return False
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    bias = layers.constant(node.inputs[2])
    return bias is not None and bias.shape == (layers.output_channels(node, weight.shape),)


def _padded(node: ir.Node) -> bool:
    if node.op_type != "Conv":
        return False
    pads, auto = node.attributes.get("pads"), node.attributes.get("auto_pad")
    if auto is not None and auto.as_string() not in ("NOTSET", "VALID"):
        return True
    return pads is not None and any(pads.as_ints())


def _sums(node: ir.Node) -> np.ndarray:
    """What a layer gives, per output channel, for an input of ones."""
    weight = layers.constant(node.inputs[1])
    assert weight is not None
    axis = layers.weight_axis(node, weight.ndim)
    return np.asarray(weight.sum(axis=tuple(i for i in range(weight.ndim) if i != axis), dtype=np.float64))


def _add_to_bias(graph: ir.Graph, node: ir.Node, amount: np.ndarray | np.float64) -> None:
    weight = layers.constant(node.inputs[1])
    assert weight is not None
    old = layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    channels = layers.output_channels(node, weight.shape)
    bias = (np.zeros(channels) if old is None else old.astype(np.float64)) + amount
    node.resize_inputs(3)
    node.replace_input_with(2, _constant(graph, f"{node.outputs[0].name}_centred", bias.astype(np.float32)))


def _constant(graph: ir.Graph, name: str, array: np.ndarray | np.float32) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
