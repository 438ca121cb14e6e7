"""BatchNormalization ∘ layer -> layer, for Conv, ConvTranspose and Gemm.

y = gamma * (layer(x) - mean) / sqrt(var + epsilon) + beta, which is scale * layer(x) + shift with
scale = gamma / sqrt(var + epsilon) and shift = beta - scale * mean (Ioffe & Szegedy, 2015).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import rewriting, scaling
from edgec.passes.report import Log
from edgec.passes.values import array, flag, opset

# The operator's default, https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
_EPSILON = 1e-5


def apply(model: ir.Model, log: Log) -> None:
    """Folds batch normalization into the layer before it.

    1. Layer with constant weights, with or without bias, any group: folded. Weights shared with another layer are
       copied, not changed.
    2. BatchNormalization in training mode, or whose statistics are no constants: left alone, with the reason.
    3. The layer's result is used by others too: left alone.
    4. Half-precision weights: left alone, folding would round them a second time.
    5. Statistics that give an infinite scale: left alone.
    """
    rewriting.apply(model, RULES, log)


class _IntoLayer(rewriting.Rule):
    layer: ClassVar[str]

    def pattern(self, op: Any, x: Any, gamma: Any, beta: Any, mean: Any, var: Any) -> Any:
        inner = getattr(op, self.layer)(x, _allow_other_inputs=True, _outputs=["inner"])
        return op.BatchNormalization(inner, gamma, beta, mean, var, _outputs=["outer"])

    def check(self, context: Any, inner: ir.Value, outer: ir.Value, **_: Any) -> MatchResult:
        layer, norm = inner.producer(), outer.producer()
        if layer is None or norm is None:
            return rewriting.no()
        version = opset(context.model)
        if len(norm.outputs) > 1 or (version >= 14 and flag(norm, "training_mode")):
            return rewriting.no("The BatchNormalization is in training mode")
        if version < 7 or (version < 9 and not flag(norm, "spatial", True)):
            return rewriting.no("The BatchNormalization is of an old kind")
        if any(array(v) is None for v in norm.inputs[1:]):
            return rewriting.no("Its scale, bias, mean or variance is not a constant")
        if why := scaling.refusal(layer):
            return rewriting.no(why)
        if any(array(v).size != scaling.out_channels(layer) for v in norm.inputs[1:]):  # type: ignore[union-attr]
            return rewriting.no("It has another number of channels than the layer")
        if not scaling.is_finite(*_affine(norm)):
            return rewriting.no("Its variance gives a scale that is not finite")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, inner: ir.Value, outer: ir.Value, **_: Any) -> Any:
        layer, norm = inner.producer(), outer.producer()
        assert layer is not None and norm is not None
        return rescaled(op, x, layer, *_affine(norm))


def rescaled(op: Any, x: ir.Value, layer: ir.Node, scale: scaling.Floats, shift: scaling.Floats) -> Any:
    """The layer that computes `scale * layer(x) + shift`."""
    weight, bias = scaling.scaled_output(layer, scale, shift)
    return op.op(
        layer.op_type,
        x,
        op.initializer(weight, name=layer.inputs[1].name),  # type: ignore[union-attr]
        op.initializer(bias, name=f"{layer.inputs[1].name}/bias"),  # type: ignore[union-attr]
        **scaling.attributes(layer),
    )


def _affine(norm: ir.Node) -> tuple[scaling.Floats, scaling.Floats]:
    gamma, beta, mean, var = (array(v).astype(np.float64) for v in norm.inputs[1:5])  # type: ignore[union-attr]
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + norm.attributes.get_float("epsilon", _EPSILON))
        return scale, beta - scale * mean


class _IntoConv(_IntoLayer):
    title, layer = "BatchNormalization into Conv", "Conv"


class _IntoConvTranspose(_IntoLayer):
    title, layer = "BatchNormalization into ConvTranspose", "ConvTranspose"


class _IntoGemm(_IntoLayer):
    title, layer = "BatchNormalization into Gemm", "Gemm"


RULES = rewriting.rules_of(_IntoConv, _IntoConvTranspose, _IntoGemm)
