"""Q/DQ pairs become integer operators: DequantizeLinear → Conv → QuantizeLinear is a Conv on integers.

1. What only moves elements moves the integers (`movers`).
2. An operator whose kernel takes integers, whose float inputs all come from DequantizeLinear and whose results all go
   into one QuantizeLinear, loses them. Its values are then integers with an entry in the table of quantizations.
3. All other Q/DQ stay: the writer makes QUANTIZE and DEQUANTIZE of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from edgec_targets.emitters.litert.file import Quantization
from edgec_targets.emitters.litert.movers import move, moves
from edgec_targets.emitters.litert.quantizers import is_op, parameters, remove_if_unused, single
from edgec_targets.emitters.litert.registry import find
from edgec_targets.emitters.litert.values import array

WEIGHTED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": None}
"""Operators with weights in input 1, and where their bias is."""
_WIDE = frozenset(
    {"Add", "AveragePool", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "Mul", "ReduceMean", "Sub"}
)
"""What TFLite has int16x8 kernels of; all others compute in float between 16-bit integers."""


def fold(model: ir.Model) -> dict[ir.Value, Quantization]:
    """Fold Q/DQ of a prepared model, in place. Returns the quantization of every integer value."""
    move(model.graph)
    table = _table(model.graph)
    for node in list(model.graph):
        if node.graph is not None:
            _fold_unit(model.graph, node, table)
    _drop_unused(model.graph)
    return table


def _table(graph: ir.Graph) -> dict[ir.Value, Quantization]:
    """Every integer value that a Q makes or a DQ reads, and what movers make of those."""
    table: dict[ir.Value, Quantization] = {}
    for node in graph:
        if is_op(node, "QuantizeLinear") and (found := single(node)) is not None:
            table[node.outputs[0]] = found
        elif is_op(node, "DequantizeLinear") and (found := parameters(node)) is not None and node.inputs[0] is not None:
            whole = len(found.scale) == 1
            if whole or array(node.inputs[0]) is not None:
                table[node.inputs[0]] = found
    for node in graph:
        if moves(node) and node.inputs and node.inputs[0] in table and array(node.inputs[0]) is None:
            for output in node.outputs:
                table[output] = table[node.inputs[0]]
    return table


def _fold_unit(graph: ir.Graph, node: ir.Node, table: dict[ir.Value, Quantization]) -> None:
    """Case 2."""
    known = find(node)
    if known is None or moves(node) or not known.integer(node):
        return
    sources: dict[int, ir.Value] = {}
    for i, value in enumerate(node.inputs):
        if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        before = value.producer()
        if before is None or not is_op(before, "DequantizeLinear") or before.inputs[0] is None:
            if not _may_stay_float(node, i, value):
                return
            continue
        found = parameters(before)
        constant = array(before.inputs[0]) is not None
        if found is None or (len(found.scale) > 1 and not constant) or before.inputs[0] not in table:
            return
        sources[i] = before.inputs[0]
    if 0 not in sources or not _weights_fit(node, sources, table):
        return
    targets: list[ir.Node] = []
    for output in node.outputs:
        readers = [use.node for use in output.uses()]
        if output.is_graph_output() or not readers or not all(is_op(r, "QuantizeLinear") for r in readers):
            return
        if any(single(r) is None or single(r) != single(readers[0]) for r in readers):
            return
        targets.append(readers[0])
    if not _one_width(node, sources, targets, table):
        return
    for i, value in sources.items():
        node.replace_input_with(i, value)
    for output, quantize in zip(node.outputs, targets, strict=True):
        for use in list(output.uses()):
            other = use.node
            other.outputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
            graph.remove(other, safe=True)
        made = quantize.outputs[0]
        output.name, output.type = made.name, made.type
        table[output] = table.pop(made)


def _one_width(
    node: ir.Node, sources: Mapping[int, ir.Value], targets: list[ir.Node], table: Mapping[ir.Value, Quantization]
) -> bool:
    """Activations of 8 bits throughout, or of 16 where the operator has such a kernel; weights have 8."""
    constant = {1, WEIGHTED[node.op_type]} if node.op_type in WEIGHTED and 1 in sources else set()
    widths = {table[v].bits for i, v in sources.items() if i not in constant or array(v) is None}
    widths |= {found.bits for t in targets if (found := single(t)) is not None}
    weights = {table[v].bits for i, v in sources.items() if i in constant and array(v) is not None}
    return (widths == {8} and weights <= {8}) or (widths == {16} and weights <= {8} and node.op_type in _WIDE)


def _may_stay_float(node: ir.Node, index: int, value: ir.Value) -> bool:
    """A constant float input that is no tensor of the kernel's own: bounds, padding values, a bias to be rounded."""
    if array(value) is None:
        return False
    if node.op_type in WEIGHTED:
        return index == WEIGHTED[node.op_type]
    return node.op_type in ("Clip", "Pad")


def _weights_fit(node: ir.Node, sources: Mapping[int, ir.Value], table: Mapping[ir.Value, Quantization]) -> bool:
    """Constant weights must be symmetric: TFLite's kernels know no zero point for them."""
    if node.op_type not in WEIGHTED:
        return all(len(table[v].scale) == 1 for v in sources.values())
    if 1 not in sources:
        return False
    weights = table[sources[1]]
    if array(sources[1]) is None:
        return node.op_type == "MatMul" and len(weights.scale) == 1
    if any(weights.zero_point):
        return False
    bias = WEIGHTED[node.op_type]
    if bias is None or bias not in sources:
        return True
    return sources[bias].dtype == ir.DataType.INT32


def _drop_unused(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        remove_if_unused(graph, node)
