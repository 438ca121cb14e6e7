"""Which layers integers are worth it for: the cheapest split of a model into float and integer parts.

A layer that is faster in integers may cost more at its borders than it saves, and the other way round: a depthwise
convolution between two dense ones stays integer though its float kernel is faster. So all are decided at once: each
node costs one thing in float and another in integers, each value that crosses costs a conversion, and the sum is least
at a minimum cut of the graph (Boykov, Veksler, Zabih 2001, "Fast Approximate Energy Minimization via Graph Cuts": for
two labels it is exact). Costs are those of `costs.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement import costs
from edgec.quantize.placement.mincut import Network
from edgec.quantize.placement.plan import plan
from edgec.quantize.placement.rules import Rules
from edgec.quantize.scheme import Assignment


@dataclass(frozen=True)
class Worth:
    """The split and what it is expected to give.

    Attributes:
        assignment: the given one, with None where integers don't pay; unchanged where they pay nowhere.
        dropped: names of the layers that now stay float.
        pays: whether integers pay anywhere.
    """

    assignment: Assignment
    dropped: tuple[str, ...]
    pays: bool


def worthwhile(model: ir.Model, assignment: Assignment, rules: Rules, arch: str) -> Worth:
    """Take integers back where float is faster, by an engine's rules and the costs of its kernels.

    Args:
        model: float model with shapes; not changed. Free dimensions count as 1.
        assignment: layer name -> Scheme or None.
        rules: the engine's.
        arch: as `platform.machine()` says; where its kernels' costs are not known, nothing is taken back. Nor is it
            where activations have 16 bits: those are for other targets.
    """
    if arch not in rules.timed or any(scheme is not None and scheme.wide for scheme in assignment.values()):
        return Worth(dict(assignment), (), True)
    copy, given = model.clone(), dict(assignment)
    rules.prepare(copy, given)
    units = plan(copy, given, rules).units
    home: dict[ir.Node, ir.Node] = {}
    for unit in units:
        home[unit.node] = unit.node
        if unit.activation is not None:
            home[unit.activation] = unit.node
    network = Network()
    source, sink = "float", "integer"
    for unit in units:
        cost = costs.node_cost(unit.node)
        network.edge(source, unit.node, cost.in_integer)
        network.edge(unit.node, sink, cost.in_float)
    values = [v for node in copy.graph for v in node.outputs] + list(copy.graph.inputs)
    for value in values:
        producer = value.producer()
        start = home.get(producer, source) if producer is not None else source
        ends = {home.get(use.node, source) for use in value.uses() if _carries(use.node, use.idx, home)}
        if value.is_graph_output():
            ends.add(source)
        ends -= {start}
        if not ends:
            continue
        network.edge(start, ("to integer", value), costs.to_integer(value))
        network.edge(("to float", value), start, costs.to_float(value))
        for end in ends:
            network.edge(("to integer", value), end, inf)
            network.edge(end, ("to float", value), inf)
    kept_float = network.source_side(source, sink)
    names = layers.layer_names(copy)
    floats = [unit.node for unit in units if unit.node in kept_float]
    weighted = [unit.node for unit in units if unit.node.op_type in rules.weighted]
    if not any(node not in kept_float for node in weighted):
        return Worth(dict(assignment), (), False)
    dropped = tuple(names[node] for node in floats if names[node] in assignment)
    return Worth({**assignment, **dict.fromkeys(dropped)}, dropped, True)


def _carries(consumer: ir.Node, index: int, home: dict[ir.Node, ir.Node]) -> bool:
    """Whether a use takes the value's data: Shape asks for its form alone, a unit's weights are not activations."""
    if consumer.op_type == "Shape":
        return False
    return consumer not in home or index == 0 or layers.weight_of(consumer) is None
