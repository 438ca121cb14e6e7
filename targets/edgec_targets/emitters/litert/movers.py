"""Q/DQ and the operators that only move elements: these move the integers, and pairs that meet vanish."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.litert.quantizers import is_op, remove_if_unused, single
from edgec_targets.emitters.litert.registry import find
from edgec_targets.emitters.litert.values import array, text

MOVERS = frozenset(
    {
        *("DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "ReduceMax", "ReduceMin", "Reshape"),
        *("Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "GlobalMaxPool"),
    }
)


def moves(node: ir.Node) -> bool:
    """Whether a node gives elements of its first input as they are, or the largest of some."""
    if node.domain not in ("", "ai.onnx"):
        return False
    return node.op_type in MOVERS or (node.op_type == "Resize" and text(node, "mode", "nearest") == "nearest")


_NARROW = frozenset({"DepthToSpace", "Expand", "ReduceMin", "Resize", "SpaceToDepth", "Tile"})
"""Movers whose kernels don't take 16-bit integers."""


def move(graph: ir.Graph) -> None:
    """Until nothing moves, in place.

    1. QuantizeLinear of a DequantizeLinear with the same parameters vanishes.
    2. mover(DQ(x)) becomes DQ(mover(x)), where integers are wanted behind it; Q(mover(x)) becomes mover(Q(x)).
    """
    changed = True
    while changed:
        changed = False
        for node in list(graph):
            if node.graph is None:
                continue
            if is_op(node, "QuantizeLinear"):
                changed |= _cancel(graph, node) or _raise_quantize(graph, node)
            elif moves(node):
                changed |= _sink_dequantize(graph, node)


def _cancel(graph: ir.Graph, node: ir.Node) -> bool:
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    if before is None or not is_op(before, "DequantizeLinear"):
        return False
    own, other, data = single(node), single(before), before.inputs[0]
    if own is None or own != other or data is None or data.dtype != node.outputs[0].dtype or array(data) is not None:
        return False
    if node.outputs[0].is_graph_output():
        return False
    node.outputs[0].replace_all_uses_with(data)
    graph.remove(node, safe=True)
    remove_if_unused(graph, before)
    return True


def _raise_quantize(graph: ir.Graph, node: ir.Node) -> bool:
    """Q(mover(x)) → mover(Q(x)), where nobody else reads either value. x must be computed by a float operator."""
    moved = node.inputs[0]
    mover = moved.producer() if moved is not None else None
    if mover is None or not moves(mover) or len(mover.outputs) != 1:
        return False
    source = mover.inputs[0]
    width = single(node)
    if moved is None or source is None or width is None or moved.is_graph_output() or len(moved.uses()) != 1:
        return False
    if width.bits == 16 and mover.op_type in _NARROW:
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
    if source is None or before is None or not is_op(before, "DequantizeLinear"):
        return False
    data = before.inputs[0]
    if data is None or array(data) is not None:
        return False
    width = single(before)
    if width is None or any(o.is_graph_output() for o in node.outputs[1:]):
        return False
    if width.bits == 16 and node.op_type in _NARROW:
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
    remove_if_unused(graph, before)
    return True


def _takes_integers(node: ir.Node) -> bool:
    if moves(node) or node.op_type == "QuantizeLinear":
        return True
    known = find(node)
    return known is not None and known.integer(node)
