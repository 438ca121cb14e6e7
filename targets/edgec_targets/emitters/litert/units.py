"""Q/DQ pairs become integer operators: DequantizeLinear → Conv → QuantizeLinear is a Conv on integers.

1. QuantizeLinear of a DequantizeLinear with the same parameters vanishes.
2. Operators that only move elements (Reshape, Transpose, MaxPool …) move the integers: a DequantizeLinear goes behind
   them, a QuantizeLinear before them.
3. An operator whose kernel takes integers, whose float inputs all come from DequantizeLinear and whose results all go
   into one QuantizeLinear, loses them. Its values are then integers with an entry in the table of quantizations.
4. All other Q/DQ stay: the writer makes QUANTIZE and DEQUANTIZE of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.file import Quantization
from edgec_targets.emitters.litert.registry import find
from edgec_targets.emitters.litert.values import array, integer

MOVERS = frozenset(
    {
        *("DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "ReduceMax", "ReduceMin", "Reshape"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "GlobalMaxPool"),
    }
)
WEIGHTED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2, "MatMul": None}
"""Operators with weights in input 1, and where their bias is."""


def fold(model: ir.Model) -> dict[ir.Value, Quantization]:
    """Fold Q/DQ of a prepared model, in place. Returns the quantization of every integer value."""
    _move(model.graph)
    table = _table(model.graph)
    for node in list(model.graph):
        if node.graph is not None:
            _fold_unit(model.graph, node, table)
    _drop_unused(model.graph)
    return table


def parameters(node: ir.Node) -> Quantization | None:
    """What a Q or DQ node says, in terms of int8 for uint8 data; None where it isn't constant, or not of 8 bits.

    int32 (biases) is fine too.
    """
    scale = array(node.inputs[1])
    if scale is None or integer(node, "block_size", 0):
        return None
    zero_input = node.inputs[2] if len(node.inputs) > 2 else None
    zero = array(zero_input) if zero_input is not None else np.zeros(scale.shape, np.uint8)
    data = node.inputs[0] if node.op_type == "DequantizeLinear" else node.outputs[0]
    if zero is None or data is None:
        return None
    # The zero point has the data's type; without one, the data say it, or it is uint8.
    kind = ir.DataType.from_numpy(zero.dtype) if zero_input is not None else data.dtype or ir.DataType.UINT8
    if kind not in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT32):
        return None
    points = zero.astype(np.int64).reshape(-1) - (128 if kind == ir.DataType.UINT8 else 0)
    axis = integer(node, "axis", 1) if scale.size > 1 else 0
    if axis < 0 and data.shape is not None:
        axis += len(data.shape)
    return Quantization(tuple(float(s) for s in scale.reshape(-1)), tuple(int(z) for z in points), axis)


def _is(node: ir.Node | None, name: str) -> bool:
    return node is not None and node.op_type == name and node.domain in ("", "ai.onnx")


def _single(node: ir.Node) -> Quantization | None:
    """Parameters of a node that has one scale for the whole tensor."""
    found = parameters(node)
    return found if found is not None and len(found.scale) == 1 else None


def _move(graph: ir.Graph) -> None:
    """Cases 1 and 2, until nothing moves."""
    changed = True
    while changed:
        changed = False
        for node in list(graph):
            if node.graph is None:
                continue
            if _is(node, "QuantizeLinear"):
                changed |= _cancel(graph, node) or _raise_quantize(graph, node)
            elif node.op_type in MOVERS and node.domain in ("", "ai.onnx"):
                changed |= _sink_dequantize(graph, node)


def _cancel(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if before is None or not _is(before, "DequantizeLinear"):
        return False
    own, other, data = _single(node), _single(before), before.inputs[0]
    if own is None or own != other or data is None or data.dtype != node.outputs[0].dtype or array(data) is not None:
        return False
    if node.outputs[0].is_graph_output():
        return False
    node.outputs[0].replace_all_uses_with(data)
    graph.remove(node, safe=True)
    _remove_if_unused(graph, before)
    return True


def _raise_quantize(graph: ir.Graph, node: ir.Node) -> bool:
    """Q(mover(x)) → mover(Q(x)), where nobody else reads either value. x must be computed by a float operator."""
    moved = node.inputs[0]
    mover = moved.producer() if moved is not None else None
    if mover is None or mover.op_type not in MOVERS or mover.domain not in ("", "ai.onnx") or len(mover.outputs) != 1:
        return False
    source = mover.inputs[0]
    if moved is None or source is None or _single(node) is None or moved.is_graph_output() or len(moved.uses()) != 1:
        return False
    producer = source.producer()
    if (
        producer is None
        or producer.op_type == "DequantizeLinear"
        or len(source.uses()) != 1
        or source.is_graph_output()
    ):
        return False
    result = node.outputs[0]
    name, kind, shape = result.name, result.type, result.shape
    new = ir.node("QuantizeLinear", [source, *node.inputs[1:]], name=node.name, attributes=dict(node.attributes))
    new.outputs[0].name, new.outputs[0].type, new.outputs[0].shape = f"{source.name}_q", kind, source.shape
    graph.insert_before(mover, new)
    mover.replace_input_with(0, new.outputs[0])
    result.replace_all_uses_with(moved, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    moved.name, moved.type, moved.shape = name, kind, shape
    return True


def _sink_dequantize(graph: ir.Graph, node: ir.Node) -> bool:
    """mover(DQ(x)) → DQ(mover(x)), where integers are wanted behind it or the DQ serves it alone."""
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if source is None or before is None or not _is(before, "DequantizeLinear"):
        return False
    data = before.inputs[0]
    if data is None or array(data) is not None:
        return False
    if _single(before) is None or any(o.is_graph_output() for o in node.outputs[1:]):
        return False
    if node.op_type == "MaxPool" and len(node.outputs) > 1:
        return False
    wanted = any(_takes_integers(use.node) for o in node.outputs for use in o.uses())
    if not wanted and (len(source.uses()) > 1 or source.is_graph_output()):
        return False
    node.replace_input_with(0, data)
    for output in node.outputs:
        new = ir.node("DequantizeLinear", [output, *before.inputs[1:]], attributes=dict(before.attributes))
        after = new.outputs[0]
        after.name, after.type, after.shape = output.name, output.type, output.shape
        uses = [use for use in output.uses() if use.node is not new]
        for use in uses:
            use.node.replace_input_with(use.idx, after)
        for i, value in enumerate(graph.outputs):
            if value is output:
                graph.outputs[i] = after
        output.name, output.type = f"{output.name}_q", data.type
        graph.insert_after(node, new)
    _remove_if_unused(graph, before)
    return True


def _takes_integers(node: ir.Node) -> bool:
    if node.op_type in MOVERS or node.op_type == "QuantizeLinear":
        return True
    known = find(node)
    return known is not None and known.integer(node)


def _table(graph: ir.Graph) -> dict[ir.Value, Quantization]:
    """Every integer value that a Q makes or a DQ reads, and what movers make of those."""
    table: dict[ir.Value, Quantization] = {}
    for node in graph:
        if _is(node, "QuantizeLinear") and (found := _single(node)) is not None:
            table[node.outputs[0]] = found
        elif _is(node, "DequantizeLinear") and (found := parameters(node)) is not None and node.inputs[0] is not None:
            single = len(found.scale) == 1
            if single or array(node.inputs[0]) is not None:
                table[node.inputs[0]] = found
    for node in graph:
        if node.op_type in MOVERS and node.inputs and node.inputs[0] in table and array(node.inputs[0]) is None:
            for output in node.outputs:
                table[output] = table[node.inputs[0]]
    return table


def _fold_unit(graph: ir.Graph, node: ir.Node, table: dict[ir.Value, Quantization]) -> None:
    """Case 3."""
    known = find(node)
    if known is None or node.op_type in MOVERS or not known.integer(node):
        return
    sources: dict[int, ir.Value] = {}
    for i, value in enumerate(node.inputs):
        if value is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
            continue
        before = value.producer()
        if before is None or not _is(before, "DequantizeLinear") or before.inputs[0] is None:
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
        if output.is_graph_output() or not readers or not all(_is(r, "QuantizeLinear") for r in readers):
            return
        if any(_single(r) is None or _single(r) != _single(readers[0]) for r in readers):
            return
        targets.append(readers[0])
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


def _remove_if_unused(graph: ir.Graph, node: ir.Node) -> None:
    if not any(o.uses() or o.is_graph_output() for o in node.outputs):
        graph.remove(node, safe=True)


def _drop_unused(graph: ir.Graph) -> None:
    for node in reversed(list(graph)):
        _remove_if_unused(graph, node)
