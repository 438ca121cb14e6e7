"""Operators of one input, element by element: activations and elementary functions."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.fusion import activation, bounds
from edgec_targets.emitters.litert.ops.products import fully_connected
from edgec_targets.emitters.litert.registry import Tied, operator
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import array, axis, given, number, rank, shape, text

_MANY_PAIRS = 256
"""Elements: from here on, softmax of pairs costs more for its calls by row than two operators over all."""
_SIMPLE: dict[str, tuple[str, str | None]] = {
    "Abs": ("ABS", "AbsOptions"),
    "Ceil": ("CEIL", None),
    "Cos": ("COS", "CosOptions"),
    "Exp": ("EXP", "ExpOptions"),
    "Floor": ("FLOOR", None),
    "HardSwish": ("HARD_SWISH", "HardSwishOptions"),
    "Log": ("LOG", None),
    "Neg": ("NEG", "NegOptions"),
    "Relu": ("RELU", None),
    "Round": ("ROUND", None),
    "Sigmoid": ("LOGISTIC", None),
    "Sign": ("SIGN", "SignOptions"),
    "Sin": ("SIN", None),
    "Sqrt": ("SQRT", None),
    "Tanh": ("TANH", None),
}


@operator(*_SIMPLE, layout=Tied())
def simple(ctx: Context, node: ir.Node) -> None:
    """One operator of TFLite."""
    code, options = _SIMPLE[node.op_type]
    ctx.unary(code, ctx.tied(node, 0), ctx.result(node, ctx.perm(node)), options)


@operator("Reciprocal", layout=Tied())
def reciprocal(ctx: Context, node: ir.Node) -> None:
    """1 / x; of a square root it is RSQRT's business only where that is the same, so DIV."""
    x = ctx.tied(node, 0)
    ctx.broadcast("DIV", ctx.scalar(1.0), x, ctx.result(node, ctx.perm(node)))


@operator("Tan", layout=Tied())
def tangent(ctx: Context, node: ir.Node) -> None:
    """sin / cos."""
    x = ctx.tied(node, 0)
    cosine = ctx.unary("COS", x, None, "CosOptions")
    ctx.broadcast("DIV", ctx.unary("SIN", x), cosine, ctx.result(node, ctx.perm(node)))


@operator("Clip", layout=Tied())
def clip(ctx: Context, node: ir.Node) -> None:
    """RELU, RELU6, RELU_N1_TO_1, RELU_0_TO_1, else MAXIMUM and MINIMUM; bounds may be computed."""
    x, out = ctx.tied(node, 0), ctx.result(node, ctx.perm(node))
    named = activation(node)
    if named is not None and x.dtype == "float32":
        ctx.unary(named, x, out)
        return
    known = bounds(node)
    if known == (0.0, 1.0) and x.dtype == "float32":
        ctx.unary("RELU_0_TO_1", x, out)
        return
    limits: list[tuple[str, Tensor]] = []
    for n, code in enumerate(("MAXIMUM", "MINIMUM")):
        if known is not None:
            if np.isfinite(known[n]):
                limits.append((code, ctx.file.constant(np.asarray(known[n], x.dtype))))
        elif given(node, n + 1) is not None:
            limits.append((code, ctx.input(node, n + 1)))
    for n, (code, limit) in enumerate(limits):
        x = ctx.broadcast(code, x, limit, out if n == len(limits) - 1 else None)
    if not limits:
        ctx.reshape(x, x.shape, out)


@operator("HardSigmoid", layout=Tied())
def hard_sigmoid(ctx: Context, node: ir.Node) -> None:
    """clip(alpha · x + beta, 0, 1), as relu6(6 alpha · x + 6 beta) / 6: a product less with the usual alpha of 1/6."""
    x, slope = ctx.tied(node, 0), 6 * number(node, "alpha", 0.2)
    if abs(slope - 1) > 1e-6:
        x = ctx.broadcast("MUL", x, ctx.scalar(slope))
    relu6 = int(schema().ActivationFunctionType.RELU6)
    line = ctx.broadcast("ADD", x, ctx.scalar(6 * number(node, "beta", 0.5)), fusedActivationFunction=relu6)
    ctx.broadcast("MUL", line, ctx.scalar(1 / 6), ctx.result(node, ctx.perm(node)))


@operator("LeakyRelu", layout=Tied())
def leaky_relu(ctx: Context, node: ir.Node) -> None:
    """LEAKY_RELU."""
    alpha = number(node, "alpha", 0.01)
    ctx.unary("LEAKY_RELU", ctx.tied(node, 0), ctx.result(node, ctx.perm(node)), "LeakyReluOptions", alpha=alpha)


@operator("PRelu", layout=Tied())
def prelu(ctx: Context, node: ir.Node) -> None:
    """relu(x) − slope · relu(−x): TFLite's own PRELU wants a slope of exactly the channel's axes."""
    slopes, dims = array(node.inputs[1]), shape(node.inputs[0])
    x, out = ctx.tied(node, 0), ctx.result(node, ctx.perm(node))
    if slopes is not None and slopes.ndim == 1 and len(dims) > 1 and slopes.size == dims[1] != dims[-1]:
        # One a channel, as opset 6 had it: the converter to newer opsets leaves the shape.
        slope = ctx.constant(ctx.fit(slopes.reshape(-1, *(1,) * (len(dims) - 2)), ctx.perm(node)))
    else:
        slope = ctx.tied(node, 1)
    if slope.data is not None and len(x.shape) > 1 and slope.size in (1, x.shape[-1]) and slope.size == slope.shape[-1]:
        alpha = np.broadcast_to(slope.data.reshape(-1), (x.shape[-1],))
        dims = (1,) * (len(x.shape) - 2) + (x.shape[-1],)
        ctx.op("PRELU", [x, ctx.file.constant(alpha.reshape(dims))], (), out=out)
        return
    negative = ctx.broadcast("MINIMUM", x, ctx.scalar(0.0))
    ctx.broadcast("ADD", ctx.unary("RELU", x), ctx.broadcast("MUL", negative, slope), out)


@operator("Elu", layout=Tied())
def elu(ctx: Context, node: ir.Node) -> None:
    """ELU; with another alpha, max(x, 0) + alpha · (exp(min(x, 0)) − 1)."""
    _elu(ctx, ctx.tied(node, 0), number(node, "alpha", 1.0), ctx.result(node, ctx.perm(node)))


def _elu(ctx: Context, x: Tensor, alpha: float, out: Tensor | None = None) -> Tensor:
    if alpha == 1:
        return ctx.unary("ELU", x, out)
    below = ctx.unary("ELU", ctx.broadcast("MINIMUM", x, ctx.scalar(0.0)))
    return ctx.broadcast("ADD", ctx.unary("RELU", x), ctx.broadcast("MUL", below, ctx.scalar(alpha)), out)


@operator("Selu", layout=Tied())
def selu(ctx: Context, node: ir.Node) -> None:
    """gamma · elu(x, alpha); defaults of the ONNX specification."""
    inner = _elu(ctx, ctx.tied(node, 0), number(node, "alpha", 1.67326319217681884765625))
    gamma = ctx.scalar(number(node, "gamma", 1.05070102214813232421875))
    ctx.broadcast("MUL", inner, gamma, ctx.result(node, ctx.perm(node)))


@operator("Celu", layout=Tied())
def celu(ctx: Context, node: ir.Node) -> None:
    """max(x, 0) + alpha · (exp(min(x, 0) / alpha) − 1)."""
    alpha, x = number(node, "alpha", 1.0), ctx.tied(node, 0)
    scaled = ctx.broadcast("MUL", ctx.broadcast("MINIMUM", x, ctx.scalar(0.0)), ctx.scalar(1 / alpha))
    below = ctx.broadcast("MUL", ctx.unary("ELU", scaled), ctx.scalar(alpha))
    ctx.broadcast("ADD", ctx.unary("RELU", x), below, ctx.result(node, ctx.perm(node)))


@operator("Softplus", layout=Tied())
def softplus(ctx: Context, node: ir.Node) -> None:
    """log(1 + exp(x)) without overflow: max(x, 0) − log(sigmoid(|x|))."""
    _softplus(ctx, ctx.tied(node, 0), ctx.result(node, ctx.perm(node)))


def _softplus(ctx: Context, x: Tensor, out: Tensor | None = None) -> Tensor:
    log = ctx.unary("LOG", ctx.unary("LOGISTIC", ctx.unary("ABS", x, None, "AbsOptions")))
    return ctx.broadcast("SUB", ctx.unary("RELU", x), log, out)


@operator("Softsign", layout=Tied())
def softsign(ctx: Context, node: ir.Node) -> None:
    """x / (1 + |x|)."""
    x = ctx.tied(node, 0)
    below = ctx.broadcast("ADD", ctx.unary("ABS", x, None, "AbsOptions"), ctx.scalar(1.0))
    ctx.broadcast("DIV", x, below, ctx.result(node, ctx.perm(node)))


@operator("Mish", layout=Tied())
def mish(ctx: Context, node: ir.Node) -> None:
    """x · tanh(softplus(x))."""
    x = ctx.tied(node, 0)
    ctx.broadcast("MUL", x, ctx.unary("TANH", _softplus(ctx, x)), ctx.result(node, ctx.perm(node)))


@operator("Swish", layout=Tied())
def swish(ctx: Context, node: ir.Node) -> None:
    """x · sigmoid(alpha · x)."""
    x, alpha = ctx.tied(node, 0), number(node, "alpha", 1.0)
    inner = x if alpha == 1 else ctx.broadcast("MUL", x, ctx.scalar(alpha))
    ctx.broadcast("MUL", x, ctx.unary("LOGISTIC", inner), ctx.result(node, ctx.perm(node)))


@operator("ThresholdedRelu", layout=Tied())
def thresholded(ctx: Context, node: ir.Node) -> None:
    """x where it is above alpha, else 0."""
    x = ctx.tied(node, 0)
    above = ctx.op("GREATER", [x, ctx.scalar(number(node, "alpha", 1.0))], x.shape, "GreaterOptions", dtype="bool")
    ctx.op("SELECT_V2", [above, x, ctx.scalar(0.0)], (), "SelectV2Options", out=ctx.result(node, ctx.perm(node)))


@operator("Gelu", layout=Tied())
def gelu(ctx: Context, node: ir.Node) -> None:
    """GELU, by the error function or by tanh."""
    tanh = text(node, "approximate", "none") == "tanh"
    ctx.unary("GELU", ctx.tied(node, 0), ctx.result(node, ctx.perm(node)), "GeluOptions", approximate=tanh)


@operator("Erf", layout=Tied())
def erf(ctx: Context, node: ir.Node) -> None:
    """GELU is x/2 · (1 + erf(x/√2)), so erf(x) = 2 · gelu(√2 x) / (√2 x) − 1, kept away from 0 / 0.

    Under |x| = 1e-3 the straight line 2x/√π is nearer than float32 can tell (the next term is x³/3).
    """
    x = ctx.tied(node, 0)
    grown = ctx.broadcast("MUL", x, ctx.scalar(np.sqrt(2.0)))
    small = ctx.op(
        "LESS", [ctx.unary("ABS", x, None, "AbsOptions"), ctx.scalar(1e-3)], x.shape, "LessOptions", dtype="bool"
    )
    safe = ctx.op("SELECT_V2", [small, ctx.scalar(1.0), grown], x.shape, "SelectV2Options", dtype="float32")
    ratio = ctx.broadcast("DIV", ctx.unary("GELU", safe, None, "GeluOptions", approximate=False), safe)
    far = ctx.broadcast("SUB", ctx.broadcast("MUL", ratio, ctx.scalar(2.0)), ctx.scalar(1.0))
    near = ctx.broadcast("MUL", x, ctx.scalar(2 / np.sqrt(np.pi)))
    ctx.op("SELECT_V2", [small, near, far], (), "SelectV2Options", out=ctx.result(node, ctx.perm(node)))


def _last_axis(node: ir.Node) -> Tied:
    return Tied(last=axis(node, -1, rank(node.inputs[0])))


@operator("Softmax", "LogSoftmax", layout=_last_axis)
def softmax(ctx: Context, node: ir.Node) -> None:
    """Along the last axis of the layout. Of two elements a and b, it is the logistic function of a − b and of b − a."""
    x, out = ctx.tied(node, 0), ctx.result(node, ctx.perm(node))
    if node.op_type == "Softmax" and x.dtype == "float32" and x.shape[-1] == 2 and x.size >= _MANY_PAIRS:
        differences = ctx.file.constant(np.array([[1, -1], [-1, 1]], np.float32))
        ctx.unary("LOGISTIC", fully_connected(ctx, x, differences, None, None, 0, keep=len(x.shape) > 2), out)
        return
    if node.op_type == "Softmax":
        ctx.unary("SOFTMAX", x, out, "SoftmaxOptions", beta=1.0)
    else:
        ctx.unary("LOG_SOFTMAX", x, out, "LogSoftmaxOptions")
