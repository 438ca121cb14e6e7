"""Estimate the memory a model needs to run: its weights and the peak of live activations.

Liveness over the graph's order: a value lives from its node to its last reader, graph inputs and outputs throughout.
Symbolic dimensions count as 1. Two groups of values are not counted, since engines that know Q/DQ never make them:
the output of a DequantizeLinear, and a value that only a QuantizeLinear reads. Subgraphs add their own peak at their
node. It is an estimate to compare boards and models with: engines add their own code and workspaces, and reuse
buffers in ways that the graph does not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


@dataclass(frozen=True)
class Estimate:
    """Bytes. `unknown` is the number of values whose shape or type is not known, counted as nothing."""

    weights: int
    activations: int
    unknown: int = 0
    symbolic: bool = False
    """True where a symbolic dimension was counted as 1: the true peak grows with it."""

    @property
    def total(self) -> int:
        """Bytes of both."""
        return self.weights + self.activations


def estimate(model: ir.Model) -> Estimate:
    """Estimate `model`'s memory. Shapes should have been inferred; unknown ones are inferred on a copy."""
    result = _graph(model.graph)
    if result.unknown:
        from onnx_ir.passes.common import ShapeInferencePass

        copy = model.clone()
        # Strict inference logs what it can't do.
        ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(copy)
        result = min(result, _graph(copy.graph), key=lambda e: e.unknown)
    weights = sum(_weight(v) for graph in _graphs(model) for v in graph.initializers.values())
    return Estimate(weights, result.activations, result.unknown, result.symbolic)


def _graphs(model: ir.Model) -> Iterable[ir.Graph]:
    yield model.graph
    yield from model.graph.subgraphs()


def _weight(value: ir.Value) -> int:
    return value.const_value.nbytes if value.const_value is not None else 0


def size(value: ir.Value) -> int | None:
    """Bytes of one value, symbolic dimensions as 1; None where type or shape is unknown."""
    if value.shape is None or value.dtype is None:
        return None
    elements = math.prod(d if isinstance(d, int) else 1 for d in value.shape)
    try:
        return math.ceil(elements * value.dtype.itemsize)
    except TypeError:  # strings and other types without a fixed size
        return None


def _graph(graph: ir.Graph) -> Estimate:
    """The peak of one graph's own values (and of its subgraphs at their nodes); no weights."""
    nodes = list(graph)
    weights = set(graph.initializers.values())
    last: dict[ir.Value, int] = {}
    for n, node in enumerate(nodes):
        for value in _reads(node):
            last[value] = n
    kept = set(graph.outputs) | {v for v in graph.inputs if v not in weights}
    unknown, symbolic, live, peak = 0, False, 0, 0

    def count(value: ir.Value) -> int:
        nonlocal unknown, symbolic
        if _virtual(value):
            return 0
        symbolic = symbolic or (value.shape is not None and any(not isinstance(d, int) for d in value.shape))
        bytes_ = size(value)
        unknown += bytes_ is None
        return bytes_ or 0

    sizes: dict[ir.Value, int] = {value: count(value) for value in graph.inputs if value not in weights}
    live = peak = sum(sizes.values())
    dying: dict[int, list[ir.Value]] = {}
    for n, node in enumerate(nodes):
        for value in node.outputs:
            sizes[value] = count(value)
            live += sizes[value]
            if value not in kept:
                dying.setdefault(last.get(value, n), []).append(value)
        inner = 0
        for subgraph in _subgraphs(node):
            result = _graph(subgraph)
            inner = max(inner, result.activations)
            unknown += result.unknown
            symbolic = symbolic or result.symbolic
        peak = max(peak, live + inner)
        live -= sum(sizes[value] for value in dying.pop(n, ()))
    return Estimate(0, peak, unknown, symbolic)


def _subgraphs(node: ir.Node) -> Iterable[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type.name == "GRAPH":
            yield attribute.as_graph()
        elif attribute.type.name == "GRAPHS":
            yield from attribute.as_graphs()


def _reads(node: ir.Node) -> Iterable[ir.Value]:
    """The node's inputs and whatever its subgraphs take from outside."""
    yield from (value for value in node.inputs if value is not None)
    for subgraph in _subgraphs(node):
        for inner in subgraph:
            yield from _reads(inner)
        yield from subgraph.outputs


def _virtual(value: ir.Value) -> bool:
    """True for values inside a quantized group, which fused kernels never write to memory."""
    producer = value.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return True
    readers = [node for node, _ in value.uses()]
    return bool(readers) and not value.is_graph_output() and all(r.op_type == "QuantizeLinear" for r in readers)
