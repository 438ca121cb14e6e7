"""Weights kept in 16 bits, computed with in float32: half the file, and a Cast that engines fold when they load it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.half.diffuse import Rounding, in_16_bits
from edgec.quantize.half.kinds import Kind, refusal, rounded
from edgec.quantize.half.rewrite import Names, cast, register

# A Cast node and its names take about 200 bytes of a file; what has fewer elements gains nothing.
SMALLEST = 128
# Their float inputs say how something is computed, and rounding them changes it everywhere.
_PARAMETERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Range"})


@dataclass(frozen=True)
class Stored:
    """What was stored in 16 bits.

    Attributes:
        tensors: how many constants.
        elements: their elements.
        kept: constants of that size that stayed float32, with the reason.
    """

    tensors: int
    elements: int
    kept: dict[str, str]


def store(
    model: ir.Model,
    kind: Kind,
    names: Names,
    rounding: Rounding,
    made: Mapping[ir.Value, ir.Value] | None = None,
    excluded: Collection[ir.Node] = (),
) -> Stored:
    """Replace the large float32 constants of all graphs, bodies included, by 16-bit ones and a Cast. In place.

    1. Initializers and Constant nodes of `SMALLEST` elements or more, in the graph where they are.
    2. One whose 16-bit form is there already (`made`) gets the Cast alone.
    3. Initializers that nobody reads (folding leaves some in bodies) are dropped.
    4. Left alone: those beyond the type's range or, in the mean, below it; those that are inputs or outputs as well;
       scales of Q and DQ; what an excluded node reads; vectors (biases, scales of a normalization): a hundredth of
       the file, but their errors move whole channels (MiniLM loses 6 dB by them).

    Args:
        model: to change.
        kind: the type.
        names: of the model.
        rounding: of constants.
        made: float32 constant -> its 16-bit initializer.
        excluded: nodes whose constants stay float32.
    """
    made, kept, tensors, elements = made or {}, {}, 0, 0
    for graph in model.graphs():
        for value in [v for v in graph.initializers.values() if not v.uses()]:
            if not value.is_graph_input() and not value.is_graph_output() and value.name is not None:
                del graph.initializers[value.name]
        for value in _constants(graph, excluded):
            array = layers.constant(value)
            assert array is not None
            existing = made.get(value)
            if existing is None:
                why = refusal(rounded(array, kind), kind)
                if why:
                    kept[str(value.name)] = why
                    continue
                data = in_16_bits(value, array, kind, rounding)
                existing = register(graph, names.free(f"{value.name}_{kind.name}"), data, kind)
            _replace(graph, value, existing, names)
            tensors, elements = tensors + 1, elements + array.size
    return Stored(tensors, elements, kept)


def _constants(graph: ir.Graph, excluded: Collection[ir.Node]) -> list[ir.Value]:
    """The float32 constants of a graph that are worth it and may change."""
    own = [v for v in graph.initializers.values() if not v.is_graph_input()]
    own += [node.outputs[0] for node in graph if node.op_type == "Constant" and layers.is_onnx(node)]
    found = []
    for value in own:
        tensor = layers.constant_tensor(value)
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < SMALLEST or _vector(tensor):
            continue
        users = [use.node for use in value.uses()]
        if not users or value.is_graph_output() or any(n.op_type in _PARAMETERS or n in excluded for n in users):
            continue
        found.append(value)
    return found


def _vector(tensor: ir.TensorProtocol) -> bool:
    return tensor.size == max(tensor.numpy().shape, default=1)


def _replace(graph: ir.Graph, value: ir.Value, narrow: ir.Value, names: Names) -> None:
    uses = list(value.uses())
    node = cast(narrow, ir.DataType.FLOAT, names.free(f"{value.name}_float32"))
    graph.insert_before(graph[0], node)
    for use in uses:
        use.node.replace_input_with(use.idx, node.outputs[0])
    producer = value.producer()
    if producer is not None:
        graph.remove(producer, safe=True)
    elif value.name is not None:
        del graph.initializers[value.name]


def saved_bytes(stored: Stored) -> int:
    """By how much the file shrinks, Cast nodes apart."""
    return stored.elements * (np.dtype(np.float32).itemsize - 2)
