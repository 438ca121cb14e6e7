"""Which layers integers are worth it for: the cheapest split of a model into float and integer parts.

A layer that is faster in integers may cost more at its borders than it saves, and the other way round: a depthwise
convolution between two dense ones stays integer though its float kernel is faster. So all are decided at once: each
node costs one thing in float and another in integers, each value that crosses costs a conversion, and the sum is least
at a minimum cut of the graph (Boykov, Veksler, Zabih 2001, "Fast Approximate Energy Minimization via Graph Cuts": for
two labels it is exact). Costs are those of `costs.py`, or of another engine's kernels (`costs.Kernels`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement import costs
from edgec.quantize.placement.mincut import Network
from edgec.quantize.placement.plan import plan
from edgec.quantize.placement.rules import Rules
from edgec.quantize.scheme import Assignment

_Edge = tuple[Hashable, Hashable, float]
_FLOAT, _INTEGER = "float", "integer"  # source and sink


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

    def of(self, assignment: Assignment) -> Worth:
        """The same split of the same model in another scheme: of weights with seven bits, say."""
        return Worth({**assignment, **dict.fromkeys(self.dropped)}, self.dropped, self.pays)


class Split:
    """What every split of a model into float and integers costs, by an engine's rules and the costs of its kernels.

    Args:
        model: float model with shapes; not changed. Free dimensions count as 1.
        assignment: layer name -> Scheme or None.
        rules: what runs in integers.
        kernels: what it costs.
        margin: mixtures count for that part more than the kernels say, everything integer does not: what costs that
            are not exact must save to be believed.
    """

    def __init__(
        self, model: ir.Model, assignment: Assignment, rules: Rules, kernels: costs.Kernels, margin: float = 0.0
    ) -> None:
        self._assignment, self._kernels, self._rules, self._margin = dict(assignment), kernels, rules, margin
        copy, given = model.clone(), dict(assignment)
        rules.prepare(copy, given)
        self._names = layers.layer_names(copy)
        self._units = plan(copy, given, rules).units
        home: dict[ir.Node, ir.Node] = {}
        for unit in self._units:
            home[unit.node] = unit.node
            if unit.activation is not None:
                home[unit.activation] = unit.node
        self._edges = [*self._own(), *self._crossings(copy, home)]

    def best(self) -> Worth:
        """The cheapest split."""
        network = self._network(self._edges)
        kept_float = network.source_side(_FLOAT, _INTEGER)
        floats = [unit.node for unit in self._units if unit.node in kept_float]
        weighted = [unit.node for unit in self._units if unit.node.op_type in self._rules.weighted]
        if not any(node not in kept_float for node in weighted):
            return Worth(dict(self._assignment), (), False)
        dropped = tuple(self._names[node] for node in floats if self._names[node] in self._assignment)
        if self._margin > 0 and self.cost(()) <= self.cost(dropped):
            return Worth(dict(self._assignment), (), True)
        return Worth({**self._assignment, **dict.fromkeys(dropped)}, dropped, True)

    def cost(self, dropped: Collection[str]) -> float:
        """What the split costs in which these layers, and no other weighted ones, stay float.

        Operators without weights join the cheaper side.
        """
        held: list[tuple[Hashable, Hashable, float]] = []
        for unit in self._units:
            if unit.node.op_type in self._rules.weighted:
                stays = self._names[unit.node] in dropped
                held.append((_FLOAT, unit.node, inf) if stays else (unit.node, _INTEGER, inf))
        edges = [*self._edges, *held]
        kept_float = self._network(edges).source_side(_FLOAT, _INTEGER)
        found = sum(room for a, b, room in self._edges if a in kept_float and b not in kept_float)
        return found * (1 + self._margin) if dropped else found

    def _own(self) -> Iterator[_Edge]:
        for unit in self._units:
            cost = self._kernels.node_cost(unit.node)
            yield _FLOAT, unit.node, cost.in_integer
            yield unit.node, _INTEGER, cost.in_float

    def _crossings(self, model: ir.Model, home: Mapping[ir.Node, ir.Node]) -> Iterator[_Edge]:
        values = [v for node in model.graph for v in node.outputs] + list(model.graph.inputs)
        for value in values:
            producer = value.producer()
            start: Hashable = home.get(producer, _FLOAT) if producer is not None else _FLOAT
            ends: dict[Hashable, None] = dict.fromkeys(  # in order: sums of costs are then the same in every run
                home.get(use.node, _FLOAT) for use in value.uses() if _carries(use.node, use.idx, home)
            )
            if value.is_graph_output():
                ends[_FLOAT] = None
            ends.pop(start, None)
            if not ends:
                continue
            yield start, ("to integer", value), self._kernels.to_integer(value)
            yield ("to float", value), start, self._kernels.to_float(value)
            for end in ends:
                yield ("to integer", value), end, inf
                yield end, ("to float", value), inf

    @staticmethod
    def _network(edges: Iterable[_Edge]) -> Network:
        network = Network()
        for start, end, capacity in edges:
            network.edge(start, end, capacity)
        return network


def worthwhile(
    model: ir.Model, assignment: Assignment, rules: Rules, arch: str, kernels: costs.Kernels | None = None
) -> Worth:
    """Take integers back where float is faster, by an engine's rules and the costs of its kernels.

    Args:
        model: float model with shapes; not changed. Free dimensions count as 1.
        assignment: layer name -> Scheme or None.
        rules: the engine's.
        arch: as `platform.machine()` says; where its kernels' costs are not known, nothing is taken back. Nor is it
            where activations have 16 bits: those are for other targets.
        kernels: the costs, where they are not those of `arch`.
    """
    kernels = kernels or (costs.X86 if arch in rules.timed else None)
    if kernels is None or any(scheme is not None and scheme.wide for scheme in assignment.values()):
        return Worth(dict(assignment), (), True)
    return Split(model, assignment, rules, kernels).best()


def _carries(consumer: ir.Node, index: int, home: Mapping[ir.Node, ir.Node]) -> bool:
    """Whether a use takes the value's data: Shape asks for its form alone, a unit's weights are not activations."""
    if consumer.op_type == "Shape":
        return False
    return consumer not in home or index == 0 or layers.weight_of(consumer) is None
