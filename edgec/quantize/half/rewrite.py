"""Writing the split into a graph: types of values, constants in 16 bits, one Cast a value that crosses, each way."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.half.diffuse import Rounding, in_16_bits
from edgec.quantize.half.kinds import Kind, rounded
from edgec.quantize.half.support import ABOUT_FORM, Roles

_FLOAT = ir.DataType.FLOAT


class Names:
    """Names that no value of a model has yet."""

    def __init__(self, model: ir.Model) -> None:
        self._taken: set[str | None] = set()
        for graph in model.graphs():
            self._taken |= {v.name for v in graph.inputs} | set(graph.initializers)
            self._taken |= {v.name for node in graph for v in node.outputs}

    def free(self, name: str) -> str:
        """The name, or with a number behind it."""
        candidate, n = name, 1
        while candidate in self._taken:
            candidate, n = f"{name}_{n}", n + 1
        self._taken.add(candidate)
        return candidate


class Rewriter:
    """Converts the graphs of one model.

    Args:
        names: of the model.
        kind: the 16-bit type.
        rounding: of constants.

    Attributes:
        constants: float32 constant -> the 16-bit initializer made of it, shared by all nodes that read it.
        casts: how many Casts it wrote.
    """

    def __init__(self, names: Names, kind: Kind, rounding: Rounding) -> None:
        self._names, self._kind, self._rounding = names, kind, rounding
        self.constants: dict[ir.Value, ir.Value] = {}
        self.casts = 0

    def graph(self, graph: ir.Graph, half: Mapping[ir.Node, Roles], keep_io: bool) -> None:
        """Convert one graph in place. Bodies of its nodes go on reading float32."""
        converted = [v for node in half for v in node.outputs if v.dtype == _FLOAT]
        if not keep_io:
            converted += [v for v in graph.inputs if v.dtype == _FLOAT and v.name not in graph.initializers]
        produced = set(converted)
        narrow: dict[ir.Value, ir.Value] = {}
        for node, roles in half.items():
            self._attribute(node, roles)
            for i in roles.inputs:
                value = node.inputs[i]
                if value is None or value in produced:
                    continue
                if layers.constant_tensor(value) is not None:
                    node.replace_input_with(i, self._constant(graph, value))
                    continue
                if value not in narrow:
                    narrow[value] = self._behind(graph, value, self._kind.onnx, f"{value.name}_{self._kind.name}")
                node.replace_input_with(i, narrow[value])
        for value in converted:
            value.type = ir.TensorType(self._kind.onnx)  # a new type: clones share the old one
        for value in converted:
            self._to_float(graph, value, half, keep_io)
        if not keep_io:
            self._outputs(graph)

    def _to_float(self, graph: ir.Graph, value: ir.Value, half: Mapping[ir.Node, Roles], keep_io: bool) -> None:
        uses = [u for u in value.uses() if not _either(u.node, u.idx, half)]
        outputs = [i for i, v in enumerate(graph.outputs) if v is value] if keep_io else []
        if not uses and not outputs:
            return
        twin = self._behind(graph, value, _FLOAT, f"{value.name}_float32")
        for use in uses:
            use.node.replace_input_with(use.idx, twin)
        if outputs:
            value.name, twin.name = self._names.free(f"{value.name}_{self._kind.name}"), value.name
            for i in outputs:
                graph.outputs[i] = twin

    def _outputs(self, graph: ir.Graph) -> None:
        """Outputs that float32 nodes make become 16-bit all the same."""
        for i, value in enumerate(graph.outputs):
            if value.dtype != _FLOAT:
                continue
            twin = self._behind(graph, value, self._kind.onnx, f"{value.name}_{self._kind.name}")
            value.name, twin.name = self._names.free(f"{value.name}_float32"), value.name
            graph.outputs[i] = twin

    def _behind(self, graph: ir.Graph, value: ir.Value, to: ir.DataType, name: str) -> ir.Value:
        """A Cast right behind a value's producer; of inputs and values of outer graphs, at the start."""
        node, producer = cast(value, to, self._names.free(name)), value.producer()
        self.casts += 1
        if producer is not None and producer.graph is graph:
            graph.insert_after(producer, node)
        else:
            graph.insert_before(graph[0], node)
        return node.outputs[0]

    def _attribute(self, node: ir.Node, roles: Roles) -> None:
        if roles.attribute == "to":
            node.attributes["to"] = ir.AttrInt64("to", int(self._kind.onnx))
        elif roles.attribute == "value":
            given = node.attributes.get("value")
            old = np.zeros(1, np.float32) if given is None else given.as_tensor().numpy()
            tensor = ir.Tensor(rounded(old, self._kind).data, dtype=self._kind.onnx)
            node.attributes["value"] = ir.AttrTensor("value", tensor)

    def _constant(self, graph: ir.Graph, value: ir.Value) -> ir.Value:
        if value not in self.constants:
            home = value.graph if isinstance(value.graph, ir.Graph) else graph
            array = layers.constant(value)
            assert array is not None
            name = self._names.free(f"{value.name}_{self._kind.name}")
            self.constants[value] = register(
                home, name, in_16_bits(value, array, self._kind, self._rounding), self._kind
            )
        return self.constants[value]


def cast(value: ir.Value, to: ir.DataType, name: str) -> ir.Node:
    """A Cast node whose result has this name, and the value's shape."""
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(to))], name=name)
    node.outputs[0].name, node.outputs[0].type = name, ir.TensorType(to)
    node.outputs[0].shape = value.shape
    return node


def register(graph: ir.Graph, name: str, data: np.ndarray, kind: Kind) -> ir.Value:
    """A new 16-bit initializer of a graph."""
    tensor = ir.Tensor(data, dtype=kind.onnx, name=name)
    value = ir.Value(name=name, type=ir.TensorType(kind.onnx), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _either(node: ir.Node, index: int, half: Mapping[ir.Node, Roles]) -> bool:
    """Whether a use reads 16 bits, or doesn't care."""
    return index in half[node].inputs if node in half else node.op_type in ABOUT_FORM
