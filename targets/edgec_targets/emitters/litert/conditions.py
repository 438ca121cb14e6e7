"""If whose condition the model computes: both branches run, and Where picks the results.

ONNX's operators have no side effects, so that is the same answer; it costs the other branch's time. TFLite's own IF
would keep two subgraphs, which no delegate takes. Branches whose results differ in shape or type are left alone.
"""

from __future__ import annotations

import onnx_ir as ir


def select(model: ir.Model) -> bool:
    """Replace the first If of the main graph that allows it, in place. False where there is none."""
    for node in list(model.graph):
        if node.op_type == "If" and node.domain in ("", "ai.onnx") and _alike(node):
            _inline(model.graph, node)
            return True
    return False


def _branches(node: ir.Node) -> tuple[ir.Graph, ir.Graph]:
    return node.attributes["then_branch"].as_graph(), node.attributes["else_branch"].as_graph()


def _alike(node: ir.Node) -> bool:
    """Whether both branches give tensors of the same type, and nothing says that their shapes differ."""
    for a, b in zip(*(g.outputs for g in _branches(node)), strict=True):
        if a.dtype is None or a.dtype != b.dtype or isinstance(a.type, ir.SequenceType):
            return False
        if a.shape is not None and b.shape is not None:
            if len(a.shape) != len(b.shape):
                return False
            pairs = zip(a.shape, b.shape, strict=True)
            if any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in pairs):
                return False
    return True


def _inline(graph: ir.Graph, node: ir.Node) -> None:
    both = []
    for side, branch in zip(("then", "else"), _branches(node), strict=True):
        mark = f"{node.name or node.outputs[0].name}/{side}"
        results = list(branch.outputs)
        for value in list(branch.initializers.values()):
            del branch.initializers[str(value.name)]
            value.name = f"{mark}/{value.name}"
            graph.register_initializer(value)
        branch.outputs.clear()
        inner = list(branch)
        branch.remove(inner)
        for one in inner:
            one.name = f"{mark}/{one.name or one.op_type}"
            for value in one.outputs:
                value.name = f"{mark}/{value.name}"
        graph.insert_before(node, inner)
        both.append(results)
    condition = node.inputs[0]
    for output, a, b in zip(list(node.outputs), *both, strict=True):
        chosen = ir.node("Where", [condition, a, b], name=f"{node.name}/{output.name}")
        made = chosen.outputs[0]
        made.name, made.type, made.shape = output.name, output.type, output.shape
        graph.insert_before(node, chosen)
        output.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
