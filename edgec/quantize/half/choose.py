"""Which nodes of a graph run in 16 bits: those that may, cut from the others where the fewest bytes need a Cast.

Every node costs the bytes that it moves and the products that it makes, half as much in 16 bits; every value that
crosses costs a Cast. The least sum is a minimum cut, as in `placement/worth.py`: a Relu between two convolutions is
never cast to float32 and back, a lone Add between float32 nodes is not worth two Casts.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from math import inf, prod

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.half import delicate, support
from edgec.quantize.half.kinds import Kind, refusal, rounded
from edgec.quantize.half.support import ABOUT_FORM, Roles
from edgec.quantize.placement.mincut import Network

# One more operator costs what moving so many bytes does (a microsecond at some 8 GB/s).
_CALL = 8192.0
# What a free dimension may be, where no data says.
_FREE = 16
# Products made in the time that one byte is moved.
_PRODUCTS = 8.0
_FLOAT = ir.DataType.FLOAT


@dataclass(frozen=True)
class Chosen:
    """The split.

    Attributes:
        half: the nodes that run in 16 bits, with what changes its type there.
        kept: why each other node with float32 results stays float32, a sentence.
    """

    half: dict[ir.Node, Roles]
    kept: dict[ir.Node, str]


@dataclass(frozen=True)
class Wish:
    """What the split must heed.

    Attributes:
        kind: the 16-bit type.
        opset: the model's.
        engine: whose kernels decide too; None: ONNX's type constraints alone.
        excluded: nodes that the user wants in float32.
        ranges: value name -> extremes, or None where no data is at hand.
        keep_io: inputs and outputs of the graph stay float32.
    """

    kind: Kind
    opset: int
    engine: str | None
    excluded: Collection[ir.Node]
    ranges: Mapping[str, delicate.Seen] | None
    keep_io: bool


def choose(graph: ir.Graph, wish: Wish) -> Chosen:
    """Decide for the nodes of one graph; bodies of If, Loop and Scan are graphs of their own.

    Args:
        graph: topologically sorted, float32; not changed.
        wish: what to heed.
    """
    able: dict[ir.Node, Roles] = {}
    kept: dict[ir.Node, str] = {}
    escaping = _escaping(graph)
    for node in graph:
        if not any(v.dtype == _FLOAT for v in node.outputs) or node.op_type == "Constant":
            continue
        found = _may(node, wish, escaping)
        if isinstance(found, str):
            kept[node] = found
        else:
            able[node] = found
    float_side = _cut(graph, able, wish)
    for node in float_side:
        kept[node] = "not worth the Casts around it"
    return Chosen({n: r for n, r in able.items() if n not in float_side}, kept)


def _may(node: ir.Node, wish: Wish, escaping: Collection[ir.Value]) -> Roles | str:
    if node in wish.excluded:
        return "excluded"
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return "it has bodies of its own"
    if any(v in escaping for v in node.outputs):
        return "its result is given out by a body"
    why = delicate.by_operator(node)
    if why:
        return why
    found = support.roles(node, wish.opset, wish.kind)
    if isinstance(found, str):
        return found
    why = support.lacks(node, found, wish.opset, wish.kind, wish.engine) if wish.engine else ""
    return why or _numbers(node, found, wish) or found


def _numbers(node: ir.Node, found: Roles, wish: Wish) -> str:
    """Why the node's numbers don't fit (a sentence), or ""."""
    for i in found.inputs:
        array = layers.constant(node.inputs[i])
        if array is not None:
            why = refusal(rounded(array, wish.kind), wish.kind)
            if why:
                return f"of its constant '{node.inputs[i].name}', {why}"  # type: ignore[union-attr]
    if wish.kind.normal < 2.0**-100:
        return ""  # bfloat16 has the range of float32
    if wish.ranges is None:
        return delicate.without_data(node)
    values = [v for v in (node.inputs[i] for i in found.inputs) if layers.constant_tensor(v) is None]
    for value in [*values, *(v for v in node.outputs if v.dtype == _FLOAT and v.uses())]:
        assert value is not None
        why = delicate.outside(wish.ranges.get(str(value.name)), wish.kind)
        if why:
            return f"of '{value.name}', {why}"
    return delicate.by_ranges(node, wish.ranges, wish.kind)


def _escaping(graph: ir.Graph) -> set[ir.Value]:
    """Values of the graph that the bodies of its nodes give out as they are: no Cast can stand between."""
    given = {v for inner in graph.subgraphs() for v in inner.outputs}
    return {v for node in graph for v in node.outputs if v in given}


def _cut(graph: ir.Graph, able: Mapping[ir.Node, Roles], wish: Wish) -> set[ir.Node]:
    """Those of the able nodes that had better stay float32."""
    network, source, sink = Network(), "float32", "half"
    for node in able:
        cost = _cost(node, wish)
        network.edge(source, node, _CALL + cost / 2)
        network.edge(node, sink, _CALL + cost)
    network.edge(source, sink, 0.0)
    inputs = [v for v in graph.inputs if v.dtype == _FLOAT]
    for value in [*inputs, *(v for node in graph for v in node.outputs if v.dtype == _FLOAT)]:
        producer = value.producer()
        start: Hashable = producer if producer in able else source
        if producer is None and not wish.keep_io and value.name not in graph.initializers:
            start = sink
        ends: set[Hashable] = set()
        for use in value.uses():
            if use.node in able:
                ends.add(use.node if use.idx in able[use.node].inputs else source)
            elif use.node.op_type not in ABOUT_FORM:
                ends.add(source)
        if value.is_graph_output():
            ends.add(source if wish.keep_io else sink)
        ends -= {start}
        if not ends:
            continue
        cast = _CALL + 6.0 * _size(value, wish)
        network.edge(start, ("to half", value), cast)
        network.edge(("to float32", value), start, cast)
        for end in ends:
            network.edge(("to half", value), end, inf)
            network.edge(end, ("to float32", value), inf)
    side = network.source_side(source, sink)
    return {node for node in able if node in side}


def _cost(node: ir.Node, wish: Wish) -> float:
    """Bytes moved in float32, and products in their measure."""
    moved = 4.0 * sum(_size(v, wish) for v in (*node.inputs, *node.outputs))
    if node.op_type not in layers.WEIGHTED or len(node.inputs) < 2:
        return moved
    result, weight = _size(node.outputs[0], wish), node.inputs[1]
    shape = [int(d) if isinstance(d, int) else 1 for d in weight.shape] if weight and weight.shape else [1]
    if node.op_type in ("Conv", "ConvTranspose"):
        products = result * prod(shape[1:])
    else:
        transposed = node.attributes.get("transB")
        rows = -1 if transposed is not None and transposed.as_int() else -2
        products = result * shape[max(rows, -len(shape))]
    return moved + products / _PRODUCTS


def _size(value: ir.Value | None, wish: Wish) -> float:
    """Elements of a value: as seen on the data, else by its shape."""
    if value is None:
        return 0.0
    seen = wish.ranges.get(str(value.name)) if wish.ranges is not None else None
    if seen is not None:
        return seen.size
    return float(prod(d if isinstance(d, int) else _FREE for d in value.shape)) if value.shape is not None else _FREE
