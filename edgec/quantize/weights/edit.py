"""Small edits of a graph: constants and nodes under free names, and a value taking another's place and name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class Editor:
    """Adds to a graph without ever taking a name that is taken.

    Args:
        graph: the main graph of a model; changed.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self._taken = {v.name for v in (*graph.inputs, *graph.initializers.values())}
        for node in graph.all_nodes():
            self._taken.update((node.name, *(v.name for v in node.outputs), *(v.name for v in node.inputs if v)))

    def free(self, name: str) -> str:
        """The name, or one like it that nothing has; taken from now on."""
        candidate, k = name, 1
        while candidate in self._taken:
            candidate, k = f"{name}_{k}", k + 1
        self._taken.add(candidate)
        return candidate

    def constant(self, name: str, array: np.ndarray, kind: ir.DataType | None = None) -> ir.Value:
        """An initializer; `kind` for types that numpy doesn't have (int4: from integers that fit)."""
        name = self.free(name)
        if kind in (ir.DataType.INT4, ir.DataType.UINT4):
            tensor: ir.TensorProtocol = _packed(array, kind, name)
        else:
            tensor = ir.Tensor(np.asarray(array, order="C"), name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        attributes: dict[str, int | float | str] | None = None,
        *,
        domain: str = "",
        kind: ir.DataType | None = None,
    ) -> ir.Node:
        """A node with one output, named `name`; not yet in the graph."""
        name = self.free(name)
        output = ir.Value(name=name, type=None if kind is None else ir.TensorType(kind))
        return ir.node(
            op_type, inputs, attributes or {}, domain=domain, outputs=[output], name=self.free(f"{name}_node")
        )

    def replace(self, old: ir.Node, new: Sequence[ir.Node]) -> None:
        """Put nodes in the place of one with one output; the last one's output takes over its name, type and uses."""
        before, after = old.outputs[0], new[-1].outputs[0]
        self.graph.insert_before(old, new)
        ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
        name, after.type, after.shape = before.name, before.type, before.shape
        self.graph.remove(old, safe=True)
        after.name = name
        if old.name:
            new[-1].name = old.name

    def drop(self, value: ir.Value) -> None:
        """Take a constant out of the graph that nothing reads any more."""
        if value.uses() or value.is_graph_output():
            return
        producer = value.producer()
        if producer is not None:
            if producer.graph is self.graph and not any(o.uses() or o.is_graph_output() for o in producer.outputs):
                sources = [v for v in producer.inputs if v is not None]
                self.graph.remove(producer, safe=True)
                for source in sources:
                    self.drop(source)
        elif value.name is not None and self.graph.initializers.get(value.name) is value:
            del self.graph.initializers[value.name]


def in_main_graph(model: ir.Model, value: ir.Value) -> bool:
    """Whether every reader of a value stands in the main graph, not in a body of If, Loop or Scan."""
    return all(use.node.graph is model.graph for use in value.uses())


def _packed(array: np.ndarray, kind: ir.DataType, name: str) -> ir.PackedTensor[np.ndarray]:
    """Two integers a byte, the first in the low half, an odd last one beside a zero (ONNX, "4 bit integer types")."""
    flat = array.reshape(-1).astype(np.int16) & 15
    flat = np.append(flat, np.int16(0)) if flat.size % 2 else flat
    packed = (flat[0::2] | (flat[1::2] << 4)).astype(np.uint8)
    return ir.PackedTensor(packed, kind, shape=ir.Shape(array.shape), name=name)
