"""Nodes whose result is known when the file is written: computed by ONNX's reference operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from edgec_targets.emitters.litert.values import array

_MOST_BYTES = 64 << 20
_KEPT = ("Random", "Bernoulli", "Multinomial", "Dropout", "QuantizeLinear", "DequantizeLinear")


def evaluate(node: ir.Node, version: int) -> list[np.ndarray] | None:
    """The results of a node that reads constants only, or shapes; None for all others.

    The folder before keeps graph outputs computed, and leaves Shape alone where it learns the shape too late.
    """
    if node.op_type in ("Shape", "Size") and node.inputs and node.inputs[0] is not None:
        return _dimensions(node, node.inputs[0])
    if node.domain not in ("", "ai.onnx") or node.op_type.startswith(_KEPT):
        return None
    if any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()):
        return None
    feeds = {}
    for value in node.inputs:
        if value is None:
            continue
        data = array(value)
        if data is None:
            return None
        feeds[str(value.name)] = data
    sizes = [v.shape for v in node.outputs]
    for dims, value in zip(sizes, node.outputs, strict=True):
        if dims is None or value.dtype is None or not all(isinstance(d, int) for d in dims):
            return None
        if np.prod([int(d) for d in dims]) * value.dtype.itemsize > _MOST_BYTES:  # type: ignore[arg-type]
            return None
    graph = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "constant",
        [onnx.helper.make_empty_tensor_value_info(n) for n in feeds],
        [onnx.helper.make_empty_tensor_value_info(str(v.name)) for v in node.outputs],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        return [np.asarray(r) for r in ReferenceEvaluator(model).run(None, feeds)]
    except Exception:  # the reference lacks the operator, or refuses it; the engine's own writer may not
        return None


def _dimensions(node: ir.Node, value: ir.Value) -> list[np.ndarray] | None:
    if value.shape is None or any(not isinstance(d, int) for d in value.shape):
        return None
    dims = np.array([int(d) for d in value.shape], np.int64)  # type: ignore[arg-type]
    if node.op_type == "Size":
        return [np.asarray(dims.prod(), np.int64)]
    start, end = node.attributes.get("start"), node.attributes.get("end")
    return [dims[(start.as_int() if start else 0) : (end.as_int() if end else len(dims))]]
