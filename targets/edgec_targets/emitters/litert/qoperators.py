"""Quantized operators (QLinearConv, QLinearAdd …) as float operators between Q/DQ, which is what they are defined as.

ONNX's own and ONNX Runtime's of com.microsoft. Integers that the Q/DQ then give back are what `units` folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.values import array, integer

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Form:
    """Where an operator has what: (data, scale, zero point) of each operand, scale and zero point of the result."""

    operator: str
    operands: tuple[tuple[int, int, int], ...]
    result: tuple[int, int]
    bias: int | None = None


_FORMS: dict[tuple[str, str], _Form] = {
    ("", "QLinearConv"): _Form("Conv", ((0, 1, 2), (3, 4, 5)), (6, 7), 8),
    ("", "QLinearMatMul"): _Form("MatMul", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (_MICROSOFT, "QGemm"): _Form("Gemm", ((0, 1, 2), (3, 4, 5)), (7, 8), 6),
    (_MICROSOFT, "QLinearAdd"): _Form("Add", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (_MICROSOFT, "QLinearMul"): _Form("Mul", ((0, 1, 2), (3, 4, 5)), (6, 7)),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _Form("GlobalAveragePool", ((0, 1, 2),), (3, 4)),
    (_MICROSOFT, "QLinearAveragePool"): _Form("AveragePool", ((0, 1, 2),), (3, 4)),
    (_MICROSOFT, "QLinearSigmoid"): _Form("Sigmoid", ((0, 1, 2),), (3, 4)),
    (_MICROSOFT, "QLinearLeakyRelu"): _Form("LeakyRelu", ((0, 1, 2),), (3, 4)),
    (_MICROSOFT, "QLinearSoftmax"): _Form("Softmax", ((0, 1, 2),), (3, 4)),
}
_DROPPED = ("channels_last", "opset")


def rewrite(model: ir.Model) -> bool:
    """Rewrite every such operator, in place. True where there was one."""
    changed = False
    for node in list(model.graph):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if domain == _MICROSOFT and node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.domain, changed = "", True
            continue
        form = _FORMS.get((domain, node.op_type))
        if form is None and (domain, node.op_type) == (_MICROSOFT, "QLinearConcat"):
            groups = range(2, len(node.inputs), 3)
            form = _Form("Concat", tuple((n, n + 1, n + 2) for n in groups), (0, 1))
        if form is None or integer(node, "channels_last", 0):
            continue
        _one(model.graph, node, form)
        changed = True
    return changed


def _one(graph: ir.Graph, node: ir.Node, form: _Form) -> None:
    name = str(node.outputs[0].name)
    inputs: list[ir.Value | None] = []
    for n, (data, scale, zero) in enumerate(form.operands):
        axis = (0 if form.operator == "Conv" else -1) if n == 1 else None
        if form.operator == "Gemm" and integer(node, "transB", 0):
            axis = 0 if n == 1 else None
        triple = [_input(node, data), _input(node, scale), _input(node, zero)]
        inputs.append(_node(graph, node, "DequantizeLinear", triple, f"{name}/in_{n}", _axis(axis)))
    bias = _input(node, form.bias) if form.bias is not None else None
    if bias is not None:
        inputs.append(_bias(graph, node, form, bias, name))
    kept = {k: v for k, v in node.attributes.items() if k not in _DROPPED}
    real = _node(graph, node, form.operator, inputs, f"{name}/real", kept)
    if all(n >= len(node.inputs) or node.inputs[n] is None for n in form.result):  # QGemm with a float result
        node.outputs[0].replace_all_uses_with(real, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        real.name = name
        return
    result = ir.Node("", "QuantizeLinear", [real, _input(node, form.result[0]), _input(node, form.result[1])])
    made, old = result.outputs[0], node.outputs[0]
    made.type, made.shape = old.type, old.shape
    graph.insert_before(node, result)
    old.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    result.name = made.name = name


def _bias(graph: ir.Graph, node: ir.Node, form: _Form, bias: ir.Value, name: str) -> ir.Value:
    """The int32 bias: its scale is the product of the operands'."""
    scales = [array(_input(node, operand[1])) for operand in form.operands]
    if any(s is None for s in scales):
        return bias  # the writer refuses what follows, by the layer's name
    product = np.asarray(np.prod(np.broadcast_arrays(*scales), axis=0), np.float32)  # type: ignore[arg-type]
    product = product.reshape(()) if product.size == 1 else product.reshape(-1)
    tensor = ir.Tensor(product, name=f"{name}/bias_scale")
    scale = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(scale)
    return _node(graph, node, "DequantizeLinear", [bias, scale], f"{name}/bias", _axis(0 if product.ndim else None))


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _axis(axis: int | None) -> dict[str, ir.Attr]:
    return {} if axis is None else {"axis": ir.AttrInt64("axis", axis)}


def _node(
    graph: ir.Graph,
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value | None],
    name: str,
    attributes: dict[str, ir.Attr],
) -> ir.Value:
    made = ir.Node("", operator, inputs, list(attributes.values()), name=name)
    made.outputs[0].name, made.outputs[0].dtype = name, ir.DataType.FLOAT
    graph.insert_before(before, made)
    return made.outputs[0]
