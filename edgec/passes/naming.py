"""Names that nobody else in the model has."""

from __future__ import annotations

import onnx_ir as ir


class Names:
    """Names of values and nodes in use anywhere in a model, so that a new one never shadows another."""

    def __init__(self, model: ir.Model) -> None:
        self._values: set[str] = set()
        self._nodes: set[str] = set()
        for graph in model.graphs():
            self._values.update(v.name for v in graph.inputs if v.name)
            self._values.update(graph.initializers)
            for node in graph:
                self._values.update(v.name for v in node.outputs if v.name)
                self._nodes.add(node.name or "")

    def value(self, wish: str) -> str:
        """`wish`, or `wish_1`, `wish_2`…: the first that is free; it is taken from now on."""
        return _unique(wish, self._values)

    def node(self, wish: str) -> str:
        """The same for nodes."""
        return _unique(wish, self._nodes)


def _unique(wish: str, taken: set[str]) -> str:
    name, number = wish, 1
    while name in taken:
        name, number = f"{wish}_{number}", number + 1
    taken.add(name)
    return name


def name_nodes(model: ir.Model) -> None:
    """Names each node that has no name after its operator and first output: reports speak of nodes by name."""
    names = Names(model)
    for graph in model.graphs():
        for node in graph:
            if not node.name:
                first = next((v.name for v in node.outputs if v.name), "")
                node.name = names.node(f"{node.op_type}:{first}")


def separate(model: ir.Model) -> None:
    """Renames inner values whose name another value has too. Inputs, outputs and initializers keep theirs."""
    names = Names(model)
    seen = {v.name for graph in model.graphs() for v in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    for graph in model.graphs():
        for node in graph:
            for value in node.outputs:
                if not value.name or value.is_graph_output():
                    continue
                if value.name in seen:
                    value.name = names.value(value.name)
                seen.add(value.name)
