"""Operators that work on each element alone."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.context import Context
from edgec_targets.emitters.ncnn.file import Params, Weights
from edgec_targets.emitters.ncnn.registry import Refusal, operator
from edgec_targets.emitters.ncnn.values import array, given, need, real, shape, text, weights

_UNARY = {  # UnaryOp's types
    "Abs": 0, "Neg": 1, "Floor": 2, "Ceil": 3, "Sqrt": 5, "Exp": 7, "Log": 8, "Sin": 9, "Cos": 10, "Tan": 11,
    "Asin": 12, "Acos": 13, "Atan": 14, "Reciprocal": 15, "Round": 18,
}  # fmt: skip
_PLAIN = {"Relu": "ReLU", "Sigmoid": "Sigmoid", "Tanh": "TanH", "Softplus": "Softplus", "Mish": "Mish", "Erf": "Erf"}
_MOST_PRODUCTS = 8
_SAME = ("Identity", "Dropout")


@operator(*_UNARY)
def unary(ctx: Context, node: ir.Node) -> None:
    """One UnaryOp."""
    ctx.unary(node, "UnaryOp", {0: _UNARY[node.op_type]})


@operator(*_PLAIN)
def plain(ctx: Context, node: ir.Node) -> None:
    """A layer of the same meaning and without parameters."""
    ctx.unary(node, _PLAIN[node.op_type])


@operator(*_SAME)
def same(ctx: Context, node: ir.Node) -> None:
    """Nothing: the result is the input."""
    ctx.put(node.outputs[0], ctx.get(need(node, 0)))


@operator("Cast")
def cast(ctx: Context, node: ir.Node) -> None:
    """Nothing, from float32 to float32."""
    to = node.attributes["to"].as_int()
    if to != ir.DataType.FLOAT or need(node, 0).dtype != ir.DataType.FLOAT:
        raise Refusal(f"It casts {need(node, 0).dtype} to {ir.DataType(to)}; ncnn computes with float32 alone.")
    same(ctx, node)


@operator("LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "HardSwish", "Gelu")
def with_parameters(ctx: Context, node: ir.Node) -> None:
    """A layer of the same meaning, with ONNX's defaults written out."""
    kinds: dict[str, tuple[str, Params]] = {
        "LeakyRelu": ("ReLU", {0: real(node, "alpha", 0.01)}),
        "Elu": ("ELU", {0: real(node, "alpha", 1.0)}),
        "Celu": ("CELU", {0: real(node, "alpha", 1.0)}),
        "Selu": ("SELU", {0: real(node, "alpha", 1.6732631921768188), 1: real(node, "gamma", 1.0507010221481323)}),
        "HardSigmoid": ("HardSigmoid", {0: real(node, "alpha", 0.2), 1: real(node, "beta", 0.5)}),
        "HardSwish": ("HardSwish", {0: 1 / 6, 1: 0.5}),
        "Gelu": ("GELU", {0: int(text(node, "approximate", "none") == "tanh")}),
    }
    kind, params = kinds[node.op_type]
    ctx.unary(node, kind, params)


@operator("Clip")
def clip(ctx: Context, node: ir.Node) -> None:
    """Clip; a bound that is missing or infinite is left to ncnn's default."""
    params: dict[int, float] = {}
    for index, key in ((1, 0), (2, 1)):
        if given(node, index) is not None:
            bound = float(weights(node, index, "bounds").reshape(()))
            if math.isnan(bound):
                raise Refusal("One of its bounds is not a number.")
            if math.isfinite(bound):
                params[key] = bound
    ctx.unary(node, "Clip", params)


@operator("PRelu")
def prelu(ctx: Context, node: ir.Node) -> None:
    """PReLU: one slope, or one a channel."""
    slope = weights(node, 1, "slopes")
    x = ctx.standard(need(node, 0))
    full = (1,) * (len(shape(need(node, 0))) - slope.ndim) + slope.shape
    channels = shape(need(node, 0))[1] if len(full) > 1 else 1
    if slope.size != 1 and (slope.size != channels or full[1] != channels or x.dims[0] != channels):
        raise Refusal(f"Its slopes have the shape {list(slope.shape)}: neither one nor one a channel.")
    result = ctx.op("PReLU", [x], x.dims, {0: slope.size}, [Weights(slope.ravel(), tagged=False)])
    ctx.put(node.outputs[0], result)


@operator("ThresholdedRelu")
def thresholded(ctx: Context, node: ir.Node) -> None:
    """x where x > alpha, else 0: x times Threshold."""
    x = ctx.get(need(node, 0))
    gate = ctx.op("Threshold", [x], x.dims, {0: real(node, "alpha", 1.0)})
    ctx.put(node.outputs[0], ctx.op("BinaryOp", [x, gate], x.dims, {0: 2}))


@operator("Softsign")
def softsign(ctx: Context, node: ir.Node) -> None:
    """x / (1 + |x|)."""
    x = ctx.get(need(node, 0))
    size = ctx.op("UnaryOp", [x], x.dims, {0: 0})
    below = ctx.op("BinaryOp", [size], x.dims, {0: 0, 1: 1, 2: 1.0})
    ctx.put(node.outputs[0], ctx.op("BinaryOp", [x, below], x.dims, {0: 3}))


@operator("Swish")
def swish(ctx: Context, node: ir.Node) -> None:
    """x · sigmoid(alpha · x)."""
    if real(node, "alpha", 1.0) != 1.0:
        raise Refusal("Its alpha is not 1.")
    ctx.unary(node, "Swish")


@operator("Pow")
def power(ctx: Context, node: ir.Node) -> None:
    """Squares and roots by their own layers, whole exponents by products: ncnn's power is exp(y · log x), x > 0."""
    exponent = array(given(node, 1))
    if exponent is None or exponent.size != 1:
        raise Refusal("Its exponent is not one constant number.")
    by = float(np.asarray(exponent, np.float64).reshape(()))
    own = {2.0: 4, 0.5: 5, -1.0: 15, -0.5: 6}.get(by)
    if own is not None:
        return ctx.unary(node, "UnaryOp", {0: own})
    if by not in range(1, _MOST_PRODUCTS + 1):
        return ctx.unary(node, "BinaryOp", {0: 6, 1: 1, 2: by})
    x = ctx.get(need(node, 0))
    result = x
    for _ in range(int(by) - 1):
        result = ctx.op("BinaryOp", [result, x], x.dims, {0: 2})
    return ctx.put(node.outputs[0], result)
