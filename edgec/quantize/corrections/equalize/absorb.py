"""High biases moved into the layer behind: a channel that a Relu never cuts needn't carry its offset.

Nagel et al. 2019 (arXiv:1906.04721), section 4.1.3: where y ≥ c > 0, relu(y − c) = relu(y) − c, so c comes off the
bias before, and W·c goes into the bias behind. They estimate c from batch normalization's β − 3γ; here it is the
smallest value that the data gave. Padding would bring in zeros that mean c, so padded layers are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.equalize.linear import Linear

# y ↦ op(y − c) = op(y) − c.
_ALONG = frozenset({"Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "ReduceMean", "Squeeze"})
# Of the smallest value seen so much is moved: others may come.
SHARE = 0.9


def absorb(
    model: ir.Model, linears: Mapping[ir.Node, Linear], extremes: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, int]:
    """Move what every sample's channel has of offset; the `Linear`s are changed.

    Args:
        model: the graph that they are of.
        linears: its layers.
        extremes: smallest and largest value by channel.

    Returns:
        Name of the Relu's result -> how many channels gave something.
    """
    moved = {}
    for node in model.graph:
        if node.op_type != "Relu" or not layers.is_onnx(node) or node.inputs[0] is None:
            continue
        before = linears.get(node.inputs[0].producer())  # type: ignore[arg-type]
        lowest = extremes.get(str(node.inputs[0].name), (np.zeros(0),))[0]
        if before is None or before.bias is None or len(node.inputs[0].uses()) != 1:
            continue
        behind = _behind(node, linears, before.channels[1])
        if not behind or lowest.shape != (before.channels[1],):
            continue
        offset = SHARE * np.maximum(lowest, 0.0)
        if not offset.any():
            continue
        before.bias = before.bias - offset
        for layer in behind:
            shift = layer.of_constant(offset)
            layer.bias = shift if layer.bias is None else layer.bias + shift
        moved[str(node.outputs[0].name)] = int((offset > 0).sum())
    return moved


def _behind(relu: ir.Node, linears: Mapping[ir.Node, Linear], channels: int) -> list[Linear]:
    """The layers that can take the offset; none where some consumer can't."""
    result: dict[ir.Node, Linear] = {}
    pending = list(relu.outputs)
    while pending:
        value = pending.pop()
        if value.is_graph_output() or not value.uses():
            return []
        for use in value.uses():
            node = use.node
            if node.graph is not relu.graph or use.idx != 0:
                return []
            layer = linears.get(node)
            if layer is not None and layer.channels[0] == channels and node.op_type != "MatMul" and not _padded(node):
                result[node] = layer
            elif layers.is_onnx(node) and node.op_type in _ALONG:
                pending += node.outputs
            else:
                return []
    return list(result.values())


def _padded(node: ir.Node) -> bool:
    if node.op_type == "ConvTranspose":
        return True
    pads, auto = node.attributes.get("pads"), node.attributes.get("auto_pad")
    if auto is not None and auto.as_string() not in ("NOTSET", "VALID"):
        return True
    return pads is not None and any(pads.as_ints())
