"""Casts around nodes whose kernel exists for wider types only."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.onnxruntime import kernels, opset, support

_D = ir.DataType
_FLOATS = {_D.BFLOAT16: (_D.FLOAT,), _D.FLOAT16: (_D.FLOAT,)}
_INTEGERS = {
    _D.INT8: (_D.INT32, _D.INT64),
    _D.UINT8: (_D.INT32, _D.INT64),
    _D.INT16: (_D.INT32, _D.INT64),
    _D.UINT16: (_D.INT32, _D.INT64),
    _D.UINT32: (_D.INT64,),
}
_SELECT = frozenset({"Max", "Min", "Clip", "Where"})
"""Operators whose answer is one of their inputs: wider integers give the very same."""

_ABOUT_TYPES = frozenset(
    {"Cast", "CastLike", "BitCast", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear",
     "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "EyeLike"}
)  # fmt: skip
"""Operators whose meaning is the type itself."""


def around(model: ir.Model) -> bool:
    """Put Casts around every refused node that a wider type helps. In place; True when there was any."""
    own, count = opset.of(model), 0
    for node in list(model.graph.all_nodes()):
        if node.domain or node.op_type in _ABOUT_TYPES or not _lacks(node, own):
            continue
        if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
            continue
        for old, new in _choices(node):
            if _helps(node, own, old, new):
                _cast(node, own, old, new)
                count += 1
                break
    return bool(count)


def _lacks(node: ir.Node, own: int) -> bool:
    return support.judge(node, own) is not None or kernels.lacks(node, own)


def _choices(node: ir.Node) -> list[tuple[ir.DataType, ir.DataType]]:
    present = dict.fromkeys(v.dtype for v in (*node.inputs, *node.outputs) if v is not None and v.dtype is not None)
    table = {**_FLOATS, **_INTEGERS} if node.op_type in _SELECT else _FLOATS
    choices = [(old, new) for old in present if old in table for new in table[old]]
    if node.op_type == "Pow" and len(node.inputs) == 2 and node.inputs[1] is not None:
        exponent = node.inputs[1].dtype
        if exponent is not None and exponent != (node.inputs[0].dtype if node.inputs[0] else None):
            # An unsigned exponent as float64: exact below 2^53, and no overflow for a sign to turn.
            choices += [(exponent, _D.DOUBLE)] if exponent in (_D.UINT32, _D.UINT64) else []
    return choices


def _helps(node: ir.Node, own: int, old: ir.DataType, new: ir.DataType) -> bool:
    """Would the table take the node with `new` for `old`?"""
    values = [*node.inputs, *node.outputs]
    before = [(v, v.dtype) for v in values if v is not None and v.dtype == old]
    try:
        for value, _ in before:
            value.type = ir.TensorType(new)  # not .dtype: clones share the type object
        return not _lacks(node, own)
    finally:
        for value, dtype in before:
            value.type = ir.TensorType(dtype)


def _cast(node: ir.Node, own: int, old: ir.DataType, new: ir.DataType) -> None:
    graph = node.graph
    assert graph is not None
    for i, value in enumerate(node.inputs):
        if value is None or value.dtype != old:
            continue
        wide = _to(value, new, f"{node.name}/in{i}/wide")
        graph.insert_before(node, wide)
        node.replace_input_with(i, wide.outputs[0])
    for out in node.outputs:
        if out.dtype != old or not out.name:
            continue
        name = out.name
        back = _to(out, old, f"{node.name}/{name}/narrow")
        new_out = back.outputs[0]
        new_out.shape = out.shape
        ir.convenience.replace_all_uses_with(out, new_out, replace_graph_outputs=True)
        back.replace_input_with(0, out)
        out.name, out.type = f"{name}/wide", ir.TensorType(new)
        new_out.name = name
        graph.insert_after(node, back)


def _to(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.Node("", "Cast", [value], [ir.AttrInt64("to", int(dtype))], name=name)
    node.outputs[0].name, node.outputs[0].type = f"{name}/value", ir.TensorType(dtype)
    node.outputs[0].shape = value.shape
    return node
