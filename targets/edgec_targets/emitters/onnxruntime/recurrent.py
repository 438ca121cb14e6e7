"""LSTM, GRU and RNN with the batch first, as ONNX Runtime's CPU kernels want them: the sequence first."""

from __future__ import annotations

import onnx_ir as ir

_SWAP = (1, 0, 2)
"""[batch, sequence, x] ↔ [sequence, batch, x], and [batch, directions, hidden] ↔ [directions, batch, hidden]."""

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
"""Positions of initial_h and initial_c (ONNX operators LSTM, GRU, RNN); 0 is X."""


def batch_second(model: ir.Model) -> bool:
    """Rewrite layout = 1 as layout = 0 between Transposes. In place; True when there was any."""
    found = [
        node
        for node in model.graph.all_nodes()
        if node.domain == "" and node.op_type in _STATES and node.attributes.get_int("layout", 0) == 1
    ]
    for node in found:
        _rewrite(node)
    return bool(found)


def _rewrite(node: ir.Node) -> None:
    graph = node.graph
    assert graph is not None
    del node.attributes["layout"]
    for at in (0, *_STATES[node.op_type]):
        value = node.inputs[at] if at < len(node.inputs) else None
        if value is None:
            continue
        turn = _transpose(value, _SWAP, f"{node.name}/in{at}")
        graph.insert_before(node, turn)
        node.replace_input_with(at, turn.outputs[0])
    for i, out in enumerate(node.outputs):
        if not out.name:
            continue
        # Y is [sequence, directions, batch, hidden] and is wanted as [batch, sequence, directions, hidden].
        inner = ir.Value(name=f"{out.name}/sequence_first", type=out.type)
        turn = _transpose(inner, (2, 0, 1, 3) if i == 0 else _SWAP, f"{node.name}/out{i}")
        _take_over(node, i, out, inner, turn)


def _take_over(node: ir.Node, index: int, out: ir.Value, inner: ir.Value, turn: ir.Node) -> None:
    """Let `turn` make what `node` made: users and the graph's outputs keep the name."""
    new, name = turn.outputs[0], out.name
    new.type, new.shape = out.type, out.shape
    ir.convenience.replace_all_uses_with(out, new, replace_graph_outputs=True)
    turn.replace_input_with(0, out)
    out.name, out.shape = inner.name, None
    new.name = name
    assert node.graph is not None
    node.graph.insert_after(node, turn)


def _transpose(value: ir.Value, order: tuple[int, ...], name: str) -> ir.Node:
    turn = ir.Node("", "Transpose", [value], [ir.AttrInt64s("perm", list(order))], name=name)
    turn.outputs[0].name, turn.outputs[0].type = f"{name}/value", value.type
    return turn
