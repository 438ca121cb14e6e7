"""Which layout each operator runs in, so that as little as possible is transposed: an energy minimised by minimum cuts.

ONNX's convolutions want N C H W, TFLite's N H W C. Most other operators don't mind, as long as their inputs agree
(`Tied`), and a Transpose is nothing but another name for a layout (`Moved`). So values that such operators connect form
a *region*, whose axes are those of one of its values; a layout is a permutation of them, the same for a value before
and behind a Transpose. Every operator of a region picks a layout; a value costs one transposition for each layout that
a reader wants and the producer didn't write. Unary costs are zero or infinite (softmax wants its axis last).

With two layouts in a region, the usual case, one minimum cut gives the least sum there is. With more, they are tried
one after the other: who gains by moving to it (alpha expansion: Boykov, Veksler, Zabih, "Fast approximate energy
minimization via graph cuts", 2001; the term for readers is their P^n model with one more label).
A transposition that moves only axes of length one is a reshape, and costs nearly nothing.

Slices and concatenations run in any layout, but copy a piece for each index of the axes before theirs: along the last
axis of many rows that costs more than two transpositions. Such an operator may put its axis first, and pays for pieces.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import onnx_ir as ir

from edgec_targets.emitters.litert.expansion import Site, Term, minimise
from edgec_targets.emitters.litert.regions import Regions, invert
from edgec_targets.emitters.litert.registry import PLAIN, Fixed, Layout, Moved, Perm, Refusal, Tied, find, identity
from edgec_targets.emitters.litert.values import shape, stored

_CALL = 4096
"""Bytes moved that one more operator is worth: what a call costs beside the copying."""
_PIECE = 20
"""The same for a piece that a slice or a concatenation copies."""
_PIECES = ("Concat", "Slice", "Split")


@dataclass
class Layouts:
    """The choice: by node for `Tied` and `Moved` (of its first result's or its input's axes), by input for `Fixed`."""

    nodes: dict[ir.Node, Perm] = field(default_factory=dict)
    inputs: dict[tuple[ir.Node, int], Perm] = field(default_factory=dict)


def order(value: ir.Value, perm: Perm) -> tuple[int, ...]:
    """The axes longer than one, as `perm` orders them: equal orders hold the same bytes."""
    dims = shape(value)
    return tuple(a for a in perm if dims[a] != 1)


def choose(graph: ir.Graph) -> Layouts:
    """Choose a layout for every operator of a prepared graph."""
    return _Chooser(graph).solve()


def rule(node: ir.Node) -> Layout:
    """The node's own rule; ONNX's order for operators that nobody knows (they are refused later)."""
    known = find(node)
    if known is None:
        return PLAIN
    try:
        how = known.layout(node)
        if not isinstance(how, Fixed):
            for value in (*node.inputs, *node.outputs):
                if value is not None:
                    shape(value)
    except Refusal:
        return PLAIN
    return how


class _Chooser:
    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._rules: dict[ir.Node, Layout] = {node: rule(node) for node in graph}
        self._regions = Regions()
        self._sites: list[Site] = []
        self._site_of: dict[object, int] = {}
        self._unite()

    def solve(self) -> Layouts:
        """The energy of all regions at once: they don't share terms, so that is the sum of their minima."""
        self._make_sites()
        terms = [t for v in self._values() if (t := self._term(v)) is not None]
        terms += [t for node in self._rules if (t := self._pieces(node)) is not None]
        labels = minimise(self._sites, terms)
        result = Layouts()
        for key, number in self._site_of.items():
            if isinstance(key, ir.Node):
                value = _anchor(key, self._rules[key])
                result.nodes[key] = self._regions.local(value, labels[number])
            elif isinstance(key, tuple):
                node, index = key
                result.inputs[node, index] = self._regions.local(node.inputs[index], labels[number])
        return result

    def _values(self) -> Iterable[ir.Value]:
        yield from self._graph.inputs
        for node in self._graph:
            yield from node.outputs

    def _unite(self) -> None:
        for node, how in self._rules.items():
            if isinstance(how, Tied):
                first, *others = _tied(node)
                for value in others:
                    self._regions.unite(first, value, identity(len(shape(first))))
        for node, how in self._rules.items():
            if isinstance(how, Moved):
                source, target = node.inputs[0], node.outputs[0]
                assert source is not None
                # A Transpose that would close a loop with itself (x + transpose(x)) must really move.
                if not self._regions.unite(source, target, invert(how.perm)):
                    self._rules[node] = Fixed({}, {})

    def _make_sites(self) -> None:
        for node, how in self._rules.items():
            if isinstance(how, Tied | Moved):
                value = _anchor(node, how)
                rank = len(shape(value))
                last = how.last if isinstance(how, Tied) else None
                wanted = [] if last is None else [(*(a for a in range(rank) if a != last), last)]
                cut = _cut_axis(node) if isinstance(how, Tied) else None
                if cut is not None:
                    wanted.append(_first(rank, cut))
                own = [identity(rank), *wanted]
                self._site(node, value, own, None if last is None else last)
            else:
                for index, choices in how.inputs.items():
                    source = node.inputs[index]
                    if source is not None and len(choices) > 1 and stored(source) is None:
                        self._site((node, index), source, list(choices), None, choices)

    def _site(
        self,
        key: object,
        value: ir.Value,
        candidates: list[Perm],
        last: int | None,
        only: tuple[Perm, ...] | None = None,
    ) -> None:
        region = self._regions

        def allowed(label: Perm) -> bool:
            local = region.local(value, label)
            return (last is None or local[-1] == last) and (only is None or local in only)

        self._site_of[key] = len(self._sites)
        self._sites.append(Site(region.root(value), [region.label(value, c) for c in candidates], allowed))

    def _pieces(self, node: ir.Node) -> Term | None:
        """What a slice or concatenation pays for pieces in a layout: a conversion to the one with its axis first."""
        axis, how = _cut_axis(node), self._rules[node]
        if axis is None or not isinstance(how, Tied):
            return None
        value, several = _anchor(node, how), max(len(node.inputs) if node.op_type == "Concat" else 1, len(node.outputs))
        dims = shape(value)
        best = self._regions.label(value, _first(len(dims), axis))

        def cost(label: Perm, _: Perm) -> int:
            local = self._regions.local(value, label)
            before = math.prod(dims[a] for a in local[: local.index(axis)])
            return _PIECE * several * (before - 1)

        return Term(self._regions.root(value), self._site_of[node], [best], cost)

    def _term(self, value: ir.Value) -> Term | None:
        """What a value's readers cost, given who writes it."""
        try:
            dims = shape(value)
        except Refusal:
            return None
        if len(dims) < 2 or stored(value) is not None:
            return None
        root = self._regions.root(value)

        def fixed(perm: Perm) -> Perm:
            return self._regions.label(value, perm)

        node = value.producer()
        writer: int | Perm = fixed(identity(len(dims)))
        if node is not None:
            how = self._rules[node]
            if isinstance(how, Fixed):
                writer = fixed(how.outputs.get(value.index() or 0, identity(len(dims))))
            else:
                writer = self._site_of[node]
        readers: list[int | Perm] = [fixed(identity(len(dims)))] if value.is_graph_output() else []
        for use in value.uses():
            how = self._rules.get(use.node, PLAIN)
            if isinstance(how, Tied) and value not in _tied(use.node):
                readers.append(fixed(identity(len(dims))))
            elif not isinstance(how, Fixed):
                readers.append(self._site_of[use.node])
            elif (use.node, use.idx) in self._site_of:
                readers.append(self._site_of[use.node, use.idx])
            else:
                readers.append(fixed(how.inputs.get(use.idx, (identity(len(dims)),))[0]))
        itemsize = value.dtype.itemsize if value.dtype is not None else 4
        moved = _CALL + math.ceil(math.prod(dims) * itemsize)

        def cost(a: Perm, b: Perm) -> int:
            if a == b:
                return 0
            same = order(value, self._regions.local(value, a)) == order(value, self._regions.local(value, b))
            return 1 if same else moved

        return Term(root, writer, readers, cost)


def _cut_axis(node: ir.Node) -> int | None:
    """The one axis that a node cuts or joins along."""
    if node.op_type not in _PIECES or node.domain not in ("", "ai.onnx"):
        return None
    whole, part = (node.inputs[0], node.outputs[0]) if node.op_type != "Concat" else (node.outputs[0], node.inputs[0])
    try:
        differ = [a for a, (n, m) in enumerate(zip(shape(whole), shape(part), strict=True)) if n != m]
    except (Refusal, ValueError):
        return None
    return differ[0] if len(differ) == 1 else None


def _first(rank: int, axis: int) -> Perm:
    return (axis, *(a for a in range(rank) if a != axis))


def _anchor(node: ir.Node, how: Layout) -> ir.Value:
    """The value whose axes a site's layout is told in."""
    value = node.inputs[0] if isinstance(how, Moved) else node.outputs[0]
    assert value is not None
    return value


def _tied(node: ir.Node) -> list[ir.Value]:
    """The results of a `Tied` node and its computed inputs of the same rank."""
    dims = node.outputs[0].shape
    rank = len(dims) if dims is not None else -1
    inputs = [v for v in node.inputs if v is not None and stored(v) is None]
    return [v for v in (*node.outputs, *inputs) if v.shape is not None and len(v.shape) == rank]
