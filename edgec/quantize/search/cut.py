"""The cheapest assignment for every amount of noise: a minimum cut with noise in the balance, for each exchange rate.

`placement/worth.py` finds which layers integers are worth it for by a minimum cut over time alone. Here an integer
layer also costs the noise of its weight, and a value that any layer takes in integers the noise of its rounding, once,
times an exchange rate λ (nanoseconds for noise): Lagrange's relaxation of "least time within a noise budget" (Everett
1963). The sum stays one that a cut minimises exactly. Where λ runs from 0 to infinity, the cuts give the lower convex
hull of all assignments' (time, noise); Eisner & Severance (1976) reach each of its corners with two cuts at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import TypeVar

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement.mincut import Network
from edgec.quantize.placement.plan import Plan
from edgec.quantize.search.prices import Prices

T = TypeVar("T")


@dataclass(frozen=True)
class Noise:
    """Noise-to-signal ratios at the outputs: of each layer's weight by the layer's name, of each value by its name."""

    weights: Mapping[str, float]
    values: Mapping[str, float]


@dataclass(frozen=True)
class Corner:
    """One assignment of the hull.

    Attributes:
        floats: names of the layers that stay float, of those that could be integers.
        time: expected nanoseconds.
        noise: expected noise-to-signal ratio.
    """

    floats: frozenset[str]
    time: float
    noise: float


class Balance:
    """Time and noise of a model's assignments.

    Args:
        model: the float model that was planned; not changed.
        planned: with everything integer that may be.
        prices: of its layers and conversions.
        noise: of its weights and values.
    """

    def __init__(self, model: ir.Model, planned: Plan, prices: Prices, noise: Noise) -> None:
        self._prices, self._noise, self.plan = prices, noise, planned
        names = layers.layer_names(model)
        self.names = {unit.node: names[unit.node] for unit in self.plan.units}
        self._home: dict[ir.Node, ir.Node] = {}
        for unit in self.plan.units:
            self._home[unit.node] = unit.node
            if unit.activation is not None:
                self._home[unit.activation] = unit.node
        values = [*(v for node in model.graph for v in node.outputs), *model.graph.inputs]
        self._flows = [flow for value in values if (flow := self._flow(value)) is not None]
        roots: dict[ir.Value, set[ir.Node]] = {}
        for unit in self.plan.units:
            touched = [v for i in unit.inputs if (v := unit.node.inputs[i]) is not None]
            touched += unit.results if unit.quantized_output else ()
            for value in touched:
                if value in self.plan.roots:
                    roots.setdefault(self.plan.roots[value], set()).add(unit.node)
        self._rounded = [(str(root.name), users) for root, users in roots.items()]

    def cut(self, rate: float) -> Corner:
        """The assignment with the least time + rate · noise."""
        network, source, sink = Network(), "float", "integer"
        for node, name in self.names.items():
            price = self._prices.layer(node)
            network.edge(source, node, price.in_integer + rate * self._noise.weights.get(name, 0.0))
            network.edge(node, sink, price.in_float)
        for name, users in self._rounded:
            network.edge(source, ("rounded", name), rate * self._noise.values.get(name, 0.0))
            for node in users:
                network.edge(("rounded", name), node, inf)
        for value, start, ends in self._flows:
            network.edge(start or source, ("to integer", value), self._prices.to_integer(value))
            network.edge(("to float", value), start or source, self._prices.to_float(value))
            for end in ends:
                network.edge(("to integer", value), end or source, inf)
                network.edge(end or source, ("to float", value), inf)
        kept = network.source_side(source, sink)
        return self.corner(frozenset(name for node, name in self.names.items() if node in kept))

    def corner(self, floats: frozenset[str]) -> Corner:
        """An assignment's time and noise."""
        integer = {node for node, name in self.names.items() if name not in floats}
        time, noise = self.conversions(floats), 0.0
        for node, name in self.names.items():
            price = self._prices.layer(node)
            time += price.in_integer if node in integer else price.in_float
            noise += self._noise.weights.get(name, 0.0) if node in integer else 0.0
        noise += sum(self._noise.values.get(name, 0.0) for name, users in self._rounded if users & integer)
        return Corner(floats, time, noise)

    def integers(self, floats: frozenset[str]) -> bool:
        """Whether any layer with weights is integer: without one an assignment is the float model, with conversions."""
        return any(name not in floats and layers.weight_of(node) is not None for node, name in self.names.items())

    def conversions(self, floats: frozenset[str]) -> float:
        """Time that an assignment spends between float and integers."""
        integer = {node for node, name in self.names.items() if name not in floats}
        time = 0.0
        for value, start, ends in self._flows:
            if start in integer:
                time += self._prices.to_float(value) if any(end not in integer for end in ends) else 0.0
            else:
                time += self._prices.to_integer(value) if any(end in integer for end in ends) else 0.0
        return time

    def front(self, most: int = 64) -> list[Corner]:
        """The hull's corners, fastest first: from no thought of noise to all float. At most about `most` of them.

        Those in between that have no integer layer left are left out.
        """
        fastest, exact = self.cut(0.0), self.corner(frozenset(self.names.values()))
        found = {fastest.floats: fastest, exact.floats: exact}
        pending = [(fastest, exact)]
        while pending and len(found) < most:
            a, b = pending.pop(0)
            if not (b.time > a.time and a.noise > b.noise):
                continue
            rate = (b.time - a.time) / (a.noise - b.noise)
            c = self.cut(rate)
            on_line = c.time + rate * c.noise >= (a.time + rate * a.noise) * (1 - 1e-9)
            if on_line or c.floats in found:
                continue
            found[c.floats] = c
            pending += [(a, c), (c, b)]
        real = [c for c in found.values() if self.integers(c.floats) and c.time < exact.time]
        return [*pareto(real, lambda c: (c.time, c.noise)), exact]

    def _flow(self, value: ir.Value) -> tuple[ir.Value, ir.Node | None, tuple[ir.Node | None, ...]] | None:
        """A value, whose it is and who reads it; None stands for all that is float anyway."""
        producer = value.producer()
        start = self._home.get(producer) if producer is not None else None
        ends: dict[ir.Node | None, None] = {}
        for use in value.uses():
            if self._carries(use.node, use.idx):
                ends[self._home.get(use.node)] = None
        if value.is_graph_output():
            ends[None] = None
        ends.pop(start, None)
        return (value, start, tuple(ends)) if ends else None

    def _carries(self, consumer: ir.Node, index: int) -> bool:
        """Whether a use takes the value's data: Shape asks for its form alone, a unit's weights are no activations."""
        if consumer.op_type == "Shape":
            return False
        return consumer not in self._home or index == 0 or layers.weight_of(consumer) is None


def pareto(points: list[T], of: Callable[[T], tuple[float, float]]) -> list[T]:
    """The points that no other beats in both numbers (less is better), by the first; of equal ones the first given."""
    best, kept = inf, []
    for point in sorted(points, key=of):
        if of(point)[1] < best:
            best = of(point)[1]
            kept.append(point)
    return kept
