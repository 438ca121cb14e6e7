"""Mul, Div, Add, Sub by a constant, after a layer or before it, go into the layer's weights."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import batchnorm, rewriting, scaling
from edgec.passes.batchnorm import rescaled
from edgec.passes.report import Log
from edgec.passes.values import array, flag, rank

# Scales outside this range would push rounding or range from activations into weights; float32 has 24 bits.
_SANE = (1e-6, 1e6)


def apply(model: ir.Model, log: Log) -> None:
    """Folds affine arithmetic.

    1. layer * c, layer / c, layer + c, layer - c, with c one number or one a channel: into weight and bias. A bias
       is not added to a MatMul (the pass `gemm` does that where it can).
    2. Conv(x * c): into the weight; zero padding does not mind a scale.
    3. Conv(x * c + d), with no padding: into weight and bias.
    4. Conv(x * c + d), with padding: c into the weight, and Conv(x + d / c) stays.
    5. c broadcasts another way, is not a constant, is zero where it divides, or is out of all range: left alone.
    6. What is in between is used elsewhere too: left alone.
    7. A BatchNormalization that comes to stand right after a layer in this way is folded too.
    """
    rewriting.apply(model, [*RULES, *batchnorm.RULES], log)


def _factors(op_type: str, constant: scaling.Floats) -> tuple[scaling.Floats, scaling.Floats]:
    """(scale, shift) such that `x op constant` is `scale * x + shift`."""
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    with np.errstate(all="ignore"):
        return {
            "Mul": (constant, zero),
            "Div": (1.0 / constant, zero),
            "Add": (one, constant),
            "Sub": (one, -constant),
        }[op_type]


def _channels(value: ir.Value, layer: ir.Node, channels: int) -> scaling.Floats | None:
    constant = array(value)
    return None if constant is None else scaling.per_channel(constant, layer, channels)


def _fits(x: ir.Value, c: ir.Value, layer: ir.Node, channels: int) -> bool:
    """Whether `x op c` has x's shape: c brings neither axes nor channels that x does not have."""
    axes, own = rank(x), rank(c) or 0
    if own == 0:
        return True
    if axes is None or own > axes or x.shape is None:
        return False
    constant = array(c)
    return (constant is not None and constant.size == 1) or x.shape[scaling.channel_axis(layer)] == channels


def _refusal(layer: ir.Node, c: ir.Value, channels: int) -> str:
    if array(c) is None:
        return "The other operand is not a constant"
    if _channels(c, layer, channels) is None:
        return "The constant is not one number a channel"
    return ""


class _After(rewriting.Rule):
    layer: ClassVar[str]
    arithmetic: ClassVar[str]

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        inner = getattr(op, self.layer)(x, _allow_other_inputs=True, _outputs=["inner"])
        return getattr(op, self.arithmetic)(inner, c)

    def check(self, context: Any, c: ir.Value, inner: ir.Value, **_: Any) -> MatchResult:
        layer = inner.producer()
        if layer is None or array(c) is None:
            return rewriting.no()  # a residual connection is no failed fusion
        if why := scaling.refusal(layer):
            return rewriting.no(why)
        if why := _refusal(layer, c, scaling.out_channels(layer)):
            return rewriting.no(why)
        constant = _channels(c, layer, scaling.out_channels(layer))
        assert constant is not None
        if not scaling.is_finite(*_factors(self.arithmetic, constant)):
            return rewriting.no("The constant gives a scale that is not finite")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, inner: ir.Value) -> Any:
        layer = inner.producer()
        assert layer is not None
        constant = _channels(c, layer, scaling.out_channels(layer))
        assert constant is not None
        scale, shift = _factors(self.arithmetic, constant)
        if layer.op_type == "MatMul":
            weight, _ = scaling.scaled_output(layer, scale, shift)
            return op.MatMul(x, op.initializer(weight, name=layer.inputs[1].name))  # type: ignore[union-attr]
        return rescaled(op, x, layer, scale, shift)


def _after(layer: str, arithmetic: str) -> type[_After]:
    title = f"{arithmetic} after {layer}"
    return type(f"{arithmetic}After{layer}", (_After,), {"title": title, "layer": layer, "arithmetic": arithmetic})


def _pads_nothing(layer: ir.Node) -> bool:
    if layer.op_type != "Conv":
        return True
    auto = layer.attributes.get_string("auto_pad", "NOTSET")
    return auto == "VALID" or (auto == "NOTSET" and not any(layer.attributes.get_ints("pads", [])))


class _Before(rewriting.Rule):
    layer: ClassVar[str]
    arithmetic: ClassVar[str]

    def pattern(self, op: Any, x: Any, c: Any) -> Any:
        inner = getattr(op, self.arithmetic)(x, c)
        return getattr(op, self.layer)(inner, _allow_other_inputs=True, _outputs=["outer"])

    def check(self, context: Any, x: ir.Value, c: ir.Value, outer: ir.Value) -> MatchResult:
        layer = outer.producer()
        if layer is None or array(c) is None:
            return rewriting.no()
        if why := scaling.refusal(layer):
            return rewriting.no(why)
        if layer.op_type == "Gemm" and flag(layer, "transA"):
            return rewriting.no("The Gemm transposes its input")
        if why := _refusal(layer, c, scaling.in_channels(layer)):
            return rewriting.no(why)
        if not _fits(x, c, layer, scaling.in_channels(layer)):
            return rewriting.no("The constant makes the result bigger, or the shape of the input is not known")
        constant = _channels(c, layer, scaling.in_channels(layer))
        assert constant is not None
        scale, shift = _factors(self.arithmetic, constant)
        if not scaling.is_finite(scale, shift):
            return rewriting.no("The constant gives a scale that is not finite")
        if np.any(shift) and not _pads_nothing(layer):
            return rewriting.no("The Conv pads with zeros, which the addition would change")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, outer: ir.Value) -> Any:
        layer = outer.producer()
        assert layer is not None
        constant = _channels(c, layer, scaling.in_channels(layer))
        assert constant is not None
        return _fed(op, x, layer, *_factors(self.arithmetic, constant))


def _fed(op: Any, x: ir.Value, layer: ir.Node, scale: scaling.Floats, shift: scaling.Floats) -> Any:
    """The layer that computes `layer(scale * x + shift)`."""
    weight, bias = scaling.scaled_input(layer, scale, shift)
    name = layer.inputs[1].name  # type: ignore[union-attr]
    inputs = [x, op.initializer(weight, name=name)]
    if scaling.has_bias(layer) or np.any(shift):
        inputs.append(op.initializer(bias, name=f"{name}/bias"))
    return op.op(layer.op_type, *inputs, **scaling.attributes(layer))


def _before(layer: str, arithmetic: str) -> type[_Before]:
    title = f"{arithmetic} before {layer}"
    return type(f"{arithmetic}Before{layer}", (_Before,), {"title": title, "layer": layer, "arithmetic": arithmetic})


class _ScaleOverShift(rewriting.Rule):
    """Case 4: zeros stay zeros under a scale, so Conv(x * c + d) is Conv'(x + d / c) whatever the padding."""

    title = "Mul before Add before Conv"

    def pattern(self, op: Any, x: Any, c: Any, d: Any) -> Any:
        inner = op.Add(op.Mul(x, c), d)
        return op.Conv(inner, _allow_other_inputs=True, _outputs=["outer"])

    def check(self, context: Any, x: ir.Value, c: ir.Value, d: ir.Value, outer: ir.Value) -> MatchResult:
        layer = outer.producer()
        if layer is None or array(c) is None or array(d) is None:
            return rewriting.no()
        if why := scaling.refusal(layer):
            return rewriting.no(why)
        channels = scaling.in_channels(layer)
        if why := _refusal(layer, c, channels) or _refusal(layer, d, channels):
            return rewriting.no(why)
        if not _fits(x, c, layer, channels):
            return rewriting.no("The scale makes the result bigger, or the shape of the input is not known")
        scale = _channels(c, layer, channels)
        if scale is None or not np.all((np.abs(scale) >= _SANE[0]) & (np.abs(scale) <= _SANE[1])):
            return rewriting.no("The scale is zero or out of range")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, c: ir.Value, d: ir.Value, outer: ir.Value) -> Any:
        layer = outer.producer()
        assert layer is not None
        channels = scaling.in_channels(layer)
        scale, shift = array(c), array(d)
        per_channel = _channels(c, layer, channels)
        assert scale is not None and shift is not None and per_channel is not None
        moved = ir.Tensor((shift.astype(np.float64) / scale.astype(np.float64)).astype(shift.dtype))
        inner = op.Add(x, op.initializer(moved, name=f"{d.name}/scaled"))
        return _fed(op, inner, layer, per_channel, np.zeros(channels))


RULES = [
    *rewriting.rules_of(
        *(_after(layer, a) for layer in ("Conv", "ConvTranspose", "Gemm") for a in ("Mul", "Add")),
        _after("MatMul", "Mul"),
        *(_before(layer, a) for layer in ("Conv", "Gemm", "MatMul") for a in ("Mul",)),
        *(_before(layer, a) for layer in ("Conv", "Gemm") for a in ("Add",)),
        _ScaleOverShift,
        commute=True,
    ),
    *rewriting.rules_of(
        *(_after(layer, a) for layer in ("Conv", "ConvTranspose", "Gemm") for a in ("Div", "Sub")),
        _after("MatMul", "Div"),
        *(_before(layer, a) for layer in ("Conv", "Gemm", "MatMul") for a in ("Div",)),
        *(_before(layer, a) for layer in ("Conv", "Gemm") for a in ("Sub",)),
    ),
]
