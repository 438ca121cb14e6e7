"""Activations that TFLite's operators apply themselves: Conv → Relu is a CONV_2D with RELU.

Fused where the bounds are exactly those of RELU, RELU6 or RELU_N1_TO_1 and nobody else reads the value between.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.values import array, given, number, stored

_HOSTS = frozenset({"Add", "AveragePool", "Conv", "Div", "Gemm", "MatMul", "MaxPool", "Mul", "Sub"})
_NAMES = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
_KEY = "edgec.litert.activation"


def fuse(model: ir.Model) -> None:
    """Fuse activations of a prepared model, in place; the host node remembers its activation."""
    for node in list(model.graph):
        source = node.inputs[0] if node.inputs else None
        host = source.producer() if source is not None else None
        name = activation(node)
        if name is None or source is None or host is None or host.domain not in ("", "ai.onnx"):
            continue
        if host.op_type not in _HOSTS or _KEY in host.meta or len(host.outputs) != 1:
            continue
        if source.dtype != ir.DataType.FLOAT or source.is_graph_output() or len(source.uses()) != 1:
            continue
        if host.op_type == "MatMul" and not _constant_matrix(host):
            continue
        host.meta[_KEY] = name
        result = node.outputs[0]
        text, shape = result.name, result.shape
        result.replace_all_uses_with(source, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        source.name, source.shape = text, shape


def bounds(node: ir.Node) -> tuple[float, float] | None:
    """What Relu and Clip limit their input to; None for other nodes, or bounds that aren't constant."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    if node.op_type != "Clip":
        return None
    low, high = number(node, "min", -np.inf), number(node, "max", np.inf)
    for index in (1, 2):
        value = given(node, index)
        if value is None:
            continue
        data = array(value)
        if data is None or data.size != 1:
            return None
        if index == 1:
            low = float(data.reshape(()))
        else:
            high = float(data.reshape(()))
    return low, high


def activation(node: ir.Node) -> str | None:
    """TFLite's name of a Relu or Clip; None where it has none."""
    found = bounds(node)
    if found is None:
        return None
    low, high = found
    if low == 0 and high >= np.finfo(np.float32).max:
        high = np.inf
    return _NAMES.get((low, high))


def fused(node: ir.Node) -> str:
    """The activation that `fuse` put into this node: "NONE", "RELU", …"""
    return str(node.meta.get(_KEY, "NONE"))


def _constant_matrix(node: ir.Node) -> bool:
    data = array(stored(given(node, 1)))
    return data is not None and data.ndim == 2
