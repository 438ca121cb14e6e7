"""The float and the quantized model walked together, layer by layer, so that each layer sees what the one before made.

Every correction that looks at one layer at a time needs the same three things: the integers that reach the layer in the
quantized model as corrected so far, the result of the same layer in the float model, and the layer's own constants.
`walk` gives them in graph order and runs each node of either model once per sample, however deep the model is: a cut
takes what is alive before it and gives what is alive behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.session import Session

Feed = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layer:
    """A quantized layer and its twin in the float model.

    Attributes:
        node: Conv, Gemm or MatMul of the quantized model, input and weight dequantized.
        name: its name.
        integers: the quantized input, before its DequantizeLinear.
        scale: the input's scale.
        zero_point: the input's zero point.
        reference: the float model's value that holds the same result.
        axis: of the channels in the result.
    """

    node: ir.Node
    name: str
    integers: ir.Value
    scale: np.float32
    zero_point: int
    reference: ir.Value
    axis: int

    @property
    def weight(self) -> tuple[ir.Node, np.ndarray, np.ndarray]:
        """The weight's DequantizeLinear, its integers and its scales."""
        value = self.node.inputs[1]
        dequantize = value.producer() if value is not None else None
        assert dequantize is not None
        data, scale = layers.constant(dequantize.inputs[0]), layers.constant(dequantize.inputs[1])
        assert data is not None and scale is not None
        return dequantize, data, scale

    def dequantized(self, integers: np.ndarray) -> np.ndarray:
        """The float32 input of the layer, as DequantizeLinear gives it."""
        return (integers.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale


def quantized_layers(model: ir.Model, quantized: ir.Model, kinds: frozenset[str]) -> list[Layer]:
    """Layers of these operator types whose input and weight are dequantized and whose result the float model has.

    In the order of the quantized graph; a layer whose twin stands before that of the layer before it is left out.
    """
    floats = {v.name: v for node in model.graph for v in node.outputs}
    position = {node: i for i, node in enumerate(model.graph)}
    names = layers.layer_names(quantized)
    result: list[Layer] = []
    last = -1
    for node in quantized.graph:
        if not layers.is_onnx(node) or node.op_type not in kinds:
            continue
        made = _layer(node, names[node], floats)
        if made is None:
            continue
        producer = made.reference.producer()
        assert producer is not None
        if position[producer] >= last:
            last = position[producer]
            result.append(made)
    return result


def walk(
    model: ir.Model, quantized: ir.Model, found: Sequence[Layer], feeds: Sequence[Feed]
) -> Iterator[tuple[Layer, list[np.ndarray], list[np.ndarray]]]:
    """Per layer, in order: the layer, its integer inputs and the float model's results, one array a sample.

    Whatever is changed in the layer before the next one is asked for is in effect from then on.
    """
    ours = Cuts(quantized, [layer.integers for layer in found])
    theirs = Cuts(model, [layer.reference for layer in found])
    try:
        state, expected = [dict(f) for f in feeds], [dict(f) for f in feeds]
        for k, layer in enumerate(found):
            yield layer, ours.advance(k, state), theirs.advance(k, expected)
    finally:
        ours.close()
        theirs.close()


class Cuts:
    """Runs a model cut behind each of some values: cut k takes what is alive before it, gives what is alive after it.

    Args:
        model: values get types while it is in use; `close` takes them back.
        ends: the values, in an order in which they can be computed.
    """

    def __init__(self, model: ir.Model, ends: Sequence[ir.Value]) -> None:
        self._model, self._ends = model, ends
        self._nodes = list(model.graph)  # as of now: corrections insert constants, which `extract` finds itself
        self._position = {node: i for i, node in enumerate(self._nodes)}
        bodies = {node: list(_bodies(node)) for node in model.graph}
        for node, graphs in bodies.items():
            self._position |= {inner: self._position[node] for g in graphs for inner in g.all_nodes()}
        self._constant: set[ir.Value] = set(model.graph.initializers.values())
        for node in model.graph:
            if not bodies[node] and all(v is None or v in self._constant for v in node.inputs):
                self._constant.update(node.outputs)
        self._wanted: dict[ir.Value, int] = {v: k for k, v in enumerate(ends)}  # the last cut that asks for it
        self._last_use = {v: self._last(v) for v in (*model.graph.inputs, *(o for n in model.graph for o in n.outputs))}
        self._done = -1
        self._typed: list[ir.Value] = []
        floats = layers.float_values(model)
        for node in model.graph:  # a cut's inputs need a type
            for value in node.outputs:
                kind = _type(node, value in floats)
                if value.dtype is None and kind is not None:
                    value.dtype = kind
                    self._typed.append(value)

    def close(self) -> None:
        """Take the types back that were only needed here: the file is not to grow by them."""
        for value in self._typed:
            value.type = None

    def _last(self, value: ir.Value) -> int:
        """Position of the last node of the main graph that reads a value, itself or in a body of it; -1: none."""
        return max((self._position[consumer] for consumer in value.consumers()), default=-1)

    def _alive(self, value: ir.Value, end: int, k: int) -> bool:
        return self._last_use[value] > end or self._wanted.get(value, -1) > k

    def advance(self, k: int, state: list[Feed]) -> list[np.ndarray]:
        """Run cut k on each sample's live values, in place; returns the value asked for, one array a sample."""
        result = self._ends[k]
        producer = result.producer()
        start = self._done + 1
        end = self._done = max(self._done, -1 if producer is None else self._position[producer])
        made = [o for n in self._nodes[start : end + 1] for o in n.outputs if o not in self._constant]
        wanted = [v for v in made if v is result or self._alive(v, end, k)]
        before = [v for v in self._last_use if v.name in state[0]]
        keep = {str(v.name) for v in before if self._alive(v, end, k)}
        session, names = None, []
        if wanted:
            inputs = [v for v in before if self._last_use[v] >= start]
            graph = ir.convenience.extract(self._model.graph, inputs, wanted)
            session = Session(ir.Model(graph, ir_version=self._model.ir_version), optimize=False)
            names = [str(v.name) for v in graph.inputs]
        name, again = str(result.name), self._alive(result, end, k)
        results = []
        for sample in state:
            outputs = {}
            if session is not None:
                outputs = dict(zip(session.outputs, session.run({n: sample[n] for n in names}), strict=True))
            results.append(outputs[name] if name in outputs else sample[name])
            for old in list(sample):
                if old not in keep:
                    del sample[old]
            sample.update(outputs)
            if not again:
                sample.pop(name, None)
        return results


def _layer(node: ir.Node, name: str, floats: dict[str | None, ir.Value]) -> Layer | None:
    producers = [v.producer() if v is not None else None for v in node.inputs[:2]]
    if len(producers) < 2 or any(p is None or p.op_type != "DequantizeLinear" for p in producers):
        return None
    source, weight = producers
    assert source is not None and weight is not None
    scale = layers.constant(source.inputs[1])
    zero = layers.constant(source.inputs[2]) if len(source.inputs) > 2 else np.zeros((), np.int64)
    known = all(layers.constant(v) is not None for v in weight.inputs[:2])
    integers, reference = source.inputs[0], float_twin(node, floats)
    if scale is None or scale.size != 1 or zero is None or not known or integers is None or reference is None:
        return None
    axis = 1 if node.op_type == "Conv" else -1
    return Layer(node, name, integers, np.float32(scale.reshape(())), int(zero.reshape(())), reference, axis)


def float_twin(node: ir.Node, floats: Mapping[str | None, ir.Value]) -> ir.Value | None:
    """The value of the float model (by name) that holds what a quantized layer gives, or None.

    1. It has the result's name.
    2. The result was an output of the graph: its name has gone to the DequantizeLinear behind it.
    3. A product of stacked matrices was made one of a matrix: the name has gone to the Reshape behind it. The twin has
       more axes then, the same last one, and its rows in the same order.
    """
    channels = _channels(node)
    values = [node.outputs[0]]
    for value in values:  # grows
        twin = floats.get(value.name)
        if twin is not None and (value is node.outputs[0] or node.op_type == "Conv" or _last(twin) == channels):
            return twin
        for consumer in value.consumers():
            moved = consumer.op_type == "Reshape" and node.op_type != "Conv"
            if layers.is_onnx(consumer) and (moved or consumer.op_type in ("DequantizeLinear", "QuantizeLinear")):
                values.append(consumer.outputs[0])
    return None


def _channels(node: ir.Node) -> int | None:
    """Output channels of a layer whose weight is dequantized."""
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    weight = None if dequantize is None else dequantize.inputs[0]
    if weight is None or weight.shape is None:
        return None
    return layers.output_channels(node, tuple(int(d) for d in weight.shape))  # type: ignore[arg-type]


def _last(value: ir.Value) -> int | None:
    size = value.shape[-1] if value.shape else None
    return size if isinstance(size, int) else None


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _type(node: ir.Node, is_float: bool) -> ir.DataType | None:
    if node.op_type == "QuantizeLinear" and len(node.inputs) > 2 and node.inputs[2] is not None:
        return node.inputs[2].dtype
    if node.op_type == "DequantizeLinear" or is_float:
        return ir.DataType.FLOAT
    first = node.inputs[0] if node.inputs else None
    return first.dtype if first is not None and node.op_type in layers.SAME_VALUES else None
