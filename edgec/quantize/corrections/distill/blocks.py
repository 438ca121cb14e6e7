"""Cutting a quantized graph into blocks that one value enters and one leaves: residual blocks, mostly.

Li et al. 2021, "BRECQ" (arXiv:2102.05426), section 3.2: errors of layers inside a block work together, those of blocks
hardly do, so a block is what is worth training at once.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.bias import layer_scales


@dataclass(frozen=True)
class Block:
    """Nodes between two values of the quantized graph.

    Attributes:
        nodes: in graph order, those of its constants among them.
        source: the value that enters; None for the graph's inputs.
        result: the value that leaves.
        reference: name of the float model's value that `result` stands for.
        trained: how many quantized layers it holds.
    """

    nodes: tuple[ir.Node, ...]
    source: ir.Value
    result: ir.Value
    reference: str
    trained: int


def blocks(model: ir.Model, quantized: ir.Model, last: ir.Value, *, least: int = 2) -> list[Block]:
    """The blocks of a quantized model, in order, each with at least `least` quantized layers (the last may have fewer).

    A cut lies behind a node after which nothing but its result is alive, and where the float model has that value.

    Args:
        model: the float model.
        quantized: made of it; one float input.
        last: the value of `quantized` behind which nothing is trained.
        least: smaller ones are joined with the next.
    """
    floats = {v.name for node in model.graph for v in node.outputs}
    nodes = list(quantized.graph)
    constant = constants(nodes, quantized.graph)
    position = {node: i for i, node in enumerate(nodes)}
    inputs = [v for v in quantized.graph.inputs if v.name not in quantized.graph.initializers]
    if len(inputs) != 1 or any(_has_bodies(n) for n in nodes):
        return []
    last_use = {v: max((position[c] for c in v.consumers()), default=-1) for n in nodes for v in n.outputs}
    outputs = {last, *quantized.graph.outputs}
    result: list[Block] = []
    source, trained, alive = inputs[0], 0, {inputs[0]}
    last_use[source] = max((position[c] for c in source.consumers()), default=-1)
    for i, node in enumerate(nodes):
        alive |= {v for v in node.outputs if v not in constant}
        alive = {v for v in alive if last_use[v] > i or v in outputs}
        trained += layers.is_onnx(node) and node.op_type in layers.WEIGHTED and layer_scales(node) is not None
        if len(alive) != 1 or not trained:
            continue
        (value,) = alive
        at_end = value is last
        name = reference(value, floats)
        if name is None or value.producer() is not node or (trained < least and not at_end) or _before_its_end(value):
            continue
        inside = needed(nodes, value, source)
        result.append(Block(tuple(inside), source, value, name, trained))
        source, trained = value, 0
        if at_end:
            break
    return result


def needed(nodes: Sequence[ir.Node], result: ir.Value, source: ir.Value) -> list[ir.Node]:
    """Those of all nodes that the result is made of, from the source on, and the makers of constants that they read."""
    wanted: set[ir.Node] = set()
    pending = [result]
    while pending:
        value = pending.pop()
        producer = value.producer()
        if value is source or producer is None or producer in wanted:
            continue
        wanted.add(producer)
        pending += [v for v in producer.inputs if v is not None]
    return [node for node in nodes if node in wanted]


def constants(nodes: Sequence[ir.Node], graph: ir.Graph) -> set[ir.Value]:
    """Values that follow from initializers alone."""
    known: set[ir.Value] = set(graph.initializers.values())
    for node in nodes:
        if all(v is None or v in known for v in node.inputs):
            known.update(node.outputs)
    return known


def reference(value: ir.Value, floats: Container[str | None]) -> str | None:
    """The float model's name of a value: its own, or what `insert` made the name of its Q/DQ pair from."""
    if value.name in floats:
        return str(value.name)
    made = re.fullmatch(r"(.*)_dequantized(_\d+)?", str(value.name), re.DOTALL)
    return made[1] if made is not None and made[1] in floats else None


def _before_its_end(value: ir.Value) -> bool:
    """Whether an activation, Q or DQ alone follows: what it cuts off would count as an error."""
    ends = layers.ACTIVATIONS | layers.POINTWISE | {"QuantizeLinear", "DequantizeLinear", "PRelu"}
    return not value.is_graph_output() and all(c.op_type in ends for c in value.consumers())


def _has_bodies(node: ir.Node) -> bool:
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
