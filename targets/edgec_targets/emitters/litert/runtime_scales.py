"""Models whose activations are quantized as they run: DynamicQuantizeLinear, then MatMulInteger or ConvInteger.

    MatMulInteger(DynamicQuantizeLinear(x), W) → MatMul(x, DequantizeLinear(W)) / scale

The model multiplies the integers' sum by the scale right after, so x's integers need not be made: the engine quantizes
x itself, row by row, as it multiplies (`dynamic`), or computes in float32. Either is nearer to the float model than one
scale for the whole tensor; it is not ONNX Runtime's answer to the digit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.values import array

_FLOAT = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}


def rewrite(model: ir.Model) -> bool:
    """Rewrite every such product with constant weights, in place. True where there was one."""
    graph, scales, changed = model.graph, dict[ir.Node, ir.Value](), False
    for node in list(graph):
        if node.op_type not in _FLOAT or node.domain not in ("", "ai.onnx"):
            continue
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        weights = node.inputs[1]
        data, result = array(weights), node.outputs[0]
        if source is None or source.op_type != "DynamicQuantizeLinear" or data is None or weights is None:
            continue
        if result.is_graph_output() or any(use.node.op_type != "Cast" for use in result.uses()):
            continue
        zero = node.inputs[3] if len(node.inputs) > 3 else None
        if zero is not None and array(zero) is None:
            continue
        if source not in scales:
            scales[source] = _scale(graph, source)
        x = source.inputs[0]
        floats = _node(graph, node, "DequantizeLinear", [weights, *_units(graph, node, data, zero)], f"{result.name}/w")
        name = f"{result.name}/product"
        product = _node(graph, node, _FLOAT[node.op_type], [x, floats], name, dict(node.attributes))
        real = _node(graph, node, "Div", [product, scales[source]], f"{result.name}/sum")
        result.replace_all_uses_with(real)
        graph.remove(node, safe=True)
        changed = True
    return changed


def _units(graph: ir.Graph, node: ir.Node, data: np.ndarray, zero: ir.Value | None) -> list[ir.Value]:
    """Scale one and the zero point, for one channel or each."""
    point = array(zero) if zero is not None else np.zeros((), data.dtype)
    assert point is not None
    flat = point.reshape(()) if point.size == 1 else point.reshape(-1)
    name = f"{node.outputs[0].name}/w"
    return [
        _constant(graph, f"{name}_scale", np.ones(flat.shape, np.float32)),
        _constant(graph, f"{name}_zero", np.ascontiguousarray(flat)),
    ]


def _scale(graph: ir.Graph, source: ir.Node) -> ir.Value:
    """(max(x, 0) − min(x, 0)) / 255 in ONNX's words; the smallest number there is where x is nothing but zeros."""
    x, name = source.inputs[0], str(source.outputs[1].name)
    zero = _constant(graph, f"{name}/zero", np.zeros((), np.float32))
    least = _constant(graph, f"{name}/least", np.array(np.finfo(np.float32).tiny))
    levels = _constant(graph, f"{name}/levels", np.array(255, np.float32))
    flat = {"keepdims": ir.AttrInt64("keepdims", 0)}
    ends = []
    for reduce, limit in (("ReduceMax", "Max"), ("ReduceMin", "Min")):
        end = _node(graph, source, reduce, [x], f"{name}/{reduce}", flat)
        ends.append(_node(graph, source, limit, [end, zero], f"{name}/{limit}"))
    span = _node(graph, source, "Sub", ends, f"{name}/span")
    step = _node(graph, source, "Div", [span, levels], f"{name}/step")
    scale = _node(graph, source, "Max", [step, least], f"{name}/scale")
    source.outputs[1].replace_all_uses_with(scale)
    return scale


def _node(
    graph: ir.Graph,
    before: ir.Node,
    operator: str,
    inputs: list[ir.Value] | list[ir.Value | None],
    name: str,
    attributes: dict[str, ir.Attr] | None = None,
) -> ir.Value:
    made = ir.Node("", operator, inputs, list((attributes or {}).values()), name=name)
    made.outputs[0].name, made.outputs[0].dtype = name, ir.DataType.FLOAT
    graph.insert_before(before, made)
    return made.outputs[0]


def _constant(graph: ir.Graph, name: str, data: np.ndarray) -> ir.Value:
    tensor = ir.Tensor(data, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
