"""Multiplies the output or input channels of Conv, ConvTranspose, Gemm and MatMul by changing their weights.

`scale * layer(x) + shift` is the same layer with other weights; so is `layer(scale * x + shift)` where no padding is
involved. Arithmetic is done in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.passes.values import FOLDABLE, array, input_at, tensor_like

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
Floats = np.ndarray[Any, np.dtype[np.float64]]


def refusal(node: ir.Node) -> str:
    """Why this layer's weights can't be changed, or ""."""
    weight, bias = input_at(node, 1), input_at(node, 2)
    constant = array(weight)
    if weight is None or constant is None:
        return "The weight is not a constant"
    if weight.dtype not in FOLDABLE:
        return f"The weight is {weight.dtype.name if weight.dtype else 'unknown'}, in which a product rounds too much"
    if node.op_type in ("Conv", "ConvTranspose") and constant.ndim < 3:
        return "The weight has no spatial axis"
    if node.op_type in ("Gemm", "MatMul") and constant.ndim != 2:
        return "The weight is not a matrix"
    if bias is not None and array(bias) is None:
        return "The bias is not a constant"
    if node.op_type == "Gemm" and bias is not None:
        shape = array(bias).shape  # type: ignore[union-attr]
        if int(np.prod(shape)) not in (1, out_channels(node)) or (shape and shape[-1] not in (1, out_channels(node))):
            return "The bias differs from row to row"
        if shape and shape[-1] == 1 and int(np.prod(shape)) > 1:
            return "The bias differs from row to row"
    if node.op_type == "ConvTranspose" and constant.shape[0] % _groups(node):
        return "The input channels are no multiple of the groups"
    return ""


def out_channels(node: ir.Node) -> int:
    """Output channels of a layer for which `refusal` is empty."""
    weight = _weight(node)
    if node.op_type == "Conv":
        return int(weight.shape[0])
    if node.op_type == "ConvTranspose":
        return int(weight.shape[1]) * _groups(node)
    return int(weight.shape[0 if _transposed(node) else 1])


def in_channels(node: ir.Node) -> int:
    """Input channels of a layer for which `refusal` is empty."""
    weight = _weight(node)
    if node.op_type == "Conv":
        return int(weight.shape[1]) * _groups(node)
    if node.op_type == "ConvTranspose":
        return int(weight.shape[0])
    return int(weight.shape[1 if _transposed(node) else 0])


def channel_axis(node: ir.Node) -> int:
    """The axis of input and output that the channels lie on, counted from the end."""
    return -(_weight(node).ndim - 1) if node.op_type in ("Conv", "ConvTranspose") else -1


def per_channel(constant: np.ndarray[Any, Any], node: ir.Node, channels: int) -> Floats | None:
    """`constant` as one number a channel, where broadcasting it against the layer's output (or input) does just that.

    None where it differs along another axis or would make the result bigger.
    """
    axis = channel_axis(node)
    # The input of a MatMul may have any number of axes; only one axis is certain not to make the result bigger.
    rank = 1 if node.op_type == "MatMul" else _weight(node).ndim
    if constant.ndim > rank:
        return None
    if constant.size == 1:
        return np.full(channels, float(constant.reshape(-1)[0]))
    if -axis > constant.ndim or constant.shape[axis] != channels or constant.size != channels:
        return None
    return constant.reshape(-1).astype(np.float64)


def scaled_output(node: ir.Node, scale: Floats, shift: Floats) -> tuple[ir.Tensor[Any], ir.Tensor[Any]]:
    """Weight and bias of the layer that computes `scale * node + shift` (one number an output channel)."""
    weight, bias = _weight(node), _bias(node)
    dtype = _dtype(node)
    if node.op_type == "ConvTranspose":
        groups = _groups(node)
        split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        factor = scale.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
        new = (split * factor).reshape(weight.shape)
    elif node.op_type == "Conv":
        new = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
    else:
        new = weight * (scale[:, None] if _transposed(node) else scale[None, :])
    return tensor_like(new, dtype), tensor_like(bias * scale + shift, dtype)


def scaled_input(node: ir.Node, scale: Floats, shift: Floats) -> tuple[ir.Tensor[Any], ir.Tensor[Any]]:
    """Weight and bias of the layer that computes `node(scale * x + shift)` (one number an input channel).

    Right only where the layer pads with nothing, or `shift` is zero.
    """
    weight, bias = _weight(node), _bias(node)
    dtype = _dtype(node)
    if node.op_type == "Conv":
        groups = _groups(node)
        split = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        ones = (1,) * (weight.ndim - 2)
        new = split * scale.reshape(groups, 1, -1, *ones)
        added = (split * shift.reshape(groups, 1, -1, *ones)).sum(axis=tuple(range(2, split.ndim))).reshape(-1)
        return tensor_like(new.reshape(weight.shape), dtype), tensor_like(bias + added, dtype)
    if _transposed(node):
        new, added = weight * scale[None, :], weight @ shift
    else:
        new, added = weight * scale[:, None], shift @ weight
    return tensor_like(new, dtype), tensor_like(bias + _number(node, "alpha") * added, dtype)


def attributes(node: ir.Node) -> Mapping[str, Any]:
    """The layer's attributes for the new node. A Gemm's beta is in the new bias already."""
    return {name: value for name, value in node.attributes.items() if not (node.op_type == "Gemm" and name == "beta")}


def has_bias(node: ir.Node) -> bool:
    """Whether the layer has a bias."""
    return node.op_type != "MatMul" and input_at(node, 2) is not None


def is_finite(*arrays: Floats) -> bool:
    """Whether folding these numbers keeps the weights finite."""
    return all(bool(np.isfinite(a).all()) for a in arrays)


def _weight(node: ir.Node) -> np.ndarray[Any, Any]:
    constant = array(node.inputs[1])
    assert constant is not None, "asked of a layer that `refusal` refuses"
    return constant.astype(np.float64)


def _bias(node: ir.Node) -> Floats:
    constant = array(input_at(node, 2)) if node.op_type != "MatMul" else None
    if constant is None:
        return np.zeros(out_channels(node))
    beta = _number(node, "beta") if node.op_type == "Gemm" else 1.0
    return np.broadcast_to(constant.astype(np.float64).reshape(-1) * beta, (out_channels(node),))


def _dtype(node: ir.Node) -> ir.DataType:
    weight = node.inputs[1]
    assert weight is not None and weight.dtype is not None
    return weight.dtype


def _groups(node: ir.Node) -> int:
    return int(node.attributes.get_int("group", 1))


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def _number(node: ir.Node, name: str) -> float:
    return float(node.attributes.get_float(name, 1.0)) if node.op_type == "Gemm" else 1.0
