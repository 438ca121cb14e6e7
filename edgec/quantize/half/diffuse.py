"""Rounding a layer's weights so that their errors cancel: each takes up what the one before it left.

Rounded one by one, the errors of an output's weights add up to a random sum, and what a layer reads has a mean: after
a Relu everything is positive, neighbouring pixels are nearly the same. The sum then shifts the output everywhere.
Handing each weight's error to the next (error diffusion; Floyd & Steinberg 1976 for pictures) keeps the sum of an
output's weights to within the last error, at no cost in size or speed: float16 weights of EfficientNet-Lite0 gain 4 dB,
ResNet-8's 8 dB. Where what a layer reads has no mean (behind a LayerNormalization) it would cost 3 dB: not done there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.half.kinds import Kind, rounded

Rounding = Literal["diffused", "nearest"]
# How many operators back a value's sign is looked for.
_DEPTH = 8


def diffused(x: np.ndarray, kind: Kind) -> np.ndarray:
    """Round rows of weights in order, each with the error that the row before it left in its column.

    Args:
        x: float32 (terms, outputs): a column's terms are added up by the layer.
        kind: the type wanted; x must not overflow it.

    Returns:
        of the kind's numpy type. A column's sum is that of x to within half a step of its last values; a value differs
        from its own by at most half a step of it plus half a step of the one before.
    """
    out = np.empty(x.shape, kind.numpy)
    carry = np.zeros(x.shape[1:], np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for row, result in zip(x, out, strict=True):
            wanted = row + carry
            result[...] = wanted.astype(kind.numpy)
            left = wanted - result.astype(np.float32)
            # What overflows or is infinite already hands nothing on.
            spoilt = ~np.isfinite(left)
            if spoilt.any():
                result[spoilt] = row[spoilt].astype(kind.numpy)
                left[spoilt] = 0
            carry = left
    return out


def in_16_bits(value: ir.Value, array: np.ndarray, kind: Kind, rounding: Rounding) -> np.ndarray:
    """A constant in 16 bits.

    Rounded to nearest one by one, unless errors are asked to cancel and can: it is the weight of layers alone, which
    add it up along the same axes, and either convolve neighbouring values (which are alike) or read values with a
    mean (behind a Relu, a Sigmoid, a HardSwish …).

    Args:
        value: the constant, with all its readers.
        array: its data, float32; must not overflow the type.
        kind: the type wanted.
        rounding: whether errors may cancel.
    """
    forms = {_terms(use.node, use.idx, array) for use in value.uses()} if rounding == "diffused" else set()
    axes = forms.pop() if len(forms) == 1 else None
    if axes is None or array.size == 0:
        return rounded(array, kind).data
    order = [*axes, *(i for i in range(array.ndim) if i not in axes)]
    moved = array.transpose(order)
    rows = np.ascontiguousarray(moved.reshape(int(np.prod([array.shape[i] for i in axes])), -1), np.float32)
    return np.ascontiguousarray(diffused(rows, kind).reshape(moved.shape).transpose(np.argsort(order)))


def _terms(node: ir.Node, index: int, weight: np.ndarray) -> tuple[int, ...] | None:
    """The axes of a weight along which a layer adds, the fastest last; None where errors need not cancel."""
    rank, x = weight.ndim, node.inputs[0] if node.inputs else None
    if index != 1 or not layers.is_onnx(node) or rank < 2 or x is None:
        return None
    if node.op_type == "Conv" and weight[0, 0].size > 1:
        return tuple(range(1, rank))
    if not _never_negative(x):
        return None
    if node.op_type == "Conv":
        return tuple(range(1, rank))
    if node.op_type == "ConvTranspose":
        return (0,)  # which of the taps meet depends on the stride
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        return (1,) if transposed is not None and transposed.as_int() else (0,)
    return (rank - 2,) if node.op_type == "MatMul" else None


def _never_negative(value: ir.Value, depth: int = 0) -> bool:
    """Whether all values are positive or nearly so: behind a Relu or the like, through pools, moves and sums."""
    node = value.producer()
    if layers.known_minimum(value) is not None:
        return True
    if node is None or depth > _DEPTH or not layers.is_onnx(node):
        return False
    if node.op_type == "HardSwish":
        return True
    if node.op_type in layers.SAME_VALUES | layers.POOLS:
        return node.inputs[0] is not None and _never_negative(node.inputs[0], depth + 1)
    if node.op_type in ("Add", "Concat", "Mul"):
        return all(v is not None and _never_negative(v, depth + 1) for v in node.inputs)
    return False
