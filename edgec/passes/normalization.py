"""LayerNormalization from its parts: (x - mean) / sqrt(var(x) + epsilon) * scale + bias (Ba et al., 2016)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, pattern

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import input_at, integers, opset, rank, scalar

# Operator set in which LayerNormalization is an operator.
_SINCE = 17


def apply(model: ir.Model, log: Log) -> None:
    """Puts layer normalization together (ONNX Runtime does the same at load, and goes on from there).

    1. Over the last axis, squares by Pow or Mul, division by Div or by Reciprocal and Mul: LayerNormalization.
    2. An Add of one number a channel after it becomes its bias.
    3. Several axes, or an axis that is not the last: left alone, with the reason.
    4. A scale or bias that is not one number a channel: left alone, with the reason.
    5. Operator set 16 and older: left alone.
    """
    rewriting.apply(model, RULES, log)


def _over_last_axis(value: ir.Value) -> bool:
    node = value.producer()
    if node is None or not node.attributes.get_int("keepdims", 1):
        return False
    axes = node.attributes.get_ints("axes", None)
    if axes is None:
        axes = integers(input_at(node, 1))
    dims = rank(node.inputs[0])
    return axes is not None and len(axes) == 1 and (axes[0] == -1 or (dims is not None and axes[0] == dims - 1))


def _is_per_channel(value: ir.Value, x: ir.Value) -> bool:
    """Whether `value` has one axis, as long as the last of x."""
    if value.shape is None or x.shape is None or len(value.shape) != 1 or len(x.shape) == 0:
        return False
    return isinstance(x.shape[-1], int) and value.shape[0] == x.shape[-1]


class _FromParts(rewriting.Rule):
    title = "LayerNormalization from its parts"

    def pattern(self, op: Any, x: Any, scale: Any, epsilon: Any) -> Any:
        mean = op.ReduceMean(x, _allow_other_inputs=True, _outputs=["mean"])
        centred = op.Sub(x, mean)
        squared = pattern.OrValue([op.Mul(centred, centred), op.Pow(centred, 2)])
        variance = op.ReduceMean(squared, _allow_other_inputs=True, _outputs=["variance"])
        deviation = op.Sqrt(op.Add(variance, epsilon))
        normalized = pattern.OrValue([op.Div(centred, deviation), op.Mul(centred, op.Reciprocal(deviation))])
        return op.Mul(normalized, scale)

    def check(
        self,
        context: Any,
        x: ir.Value,
        scale: ir.Value,
        epsilon: ir.Value,
        mean: ir.Value,
        variance: ir.Value,
        **_: Any,
    ) -> MatchResult:
        if opset(context.model) < _SINCE:
            return rewriting.no(f"LayerNormalization needs operator set {_SINCE}")
        if x.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) or scale.dtype != x.dtype:
            return rewriting.no("It is not computed in float or double")
        if scalar(epsilon) is None:
            return rewriting.no("Its epsilon is not a constant")
        if not _over_last_axis(mean) or not _over_last_axis(variance):
            return rewriting.no("It does not normalize over the last axis alone")
        if not _is_per_channel(scale, x):
            return rewriting.no("Its scale is not one number a channel")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, epsilon: ir.Value, **_: Any) -> Any:
        assert x.dtype is not None
        stash = ir.DataType.FLOAT if x.dtype == ir.DataType.FLOAT else ir.DataType.DOUBLE
        return op.LayerNormalization(x, scale, axis=-1, epsilon=float(scalar(epsilon) or 0.0), stash_type=int(stash))


class _Bias(rewriting.Rule):
    title = "LayerNormalization + bias"

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any) -> Any:
        return op.Add(op.LayerNormalization(x, scale, _outputs=["y"]), bias)

    def check(self, context: Any, x: ir.Value, bias: ir.Value, y: ir.Value, **_: Any) -> MatchResult:
        node = y.producer()
        if node is None or len(node.outputs) > 1 or bias.producer() is not None:
            return rewriting.no()
        last = node.attributes.get_int("axis", -1)
        if last != -1 and last != (rank(x) or 0) - 1:
            return rewriting.no("It does not normalize over the last axis alone")
        if not _is_per_channel(bias, x) or bias.dtype != x.dtype:
            return rewriting.no("What is added is not one number a channel")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, scale: ir.Value, bias: ir.Value, y: ir.Value) -> Any:
        node = y.producer()
        assert node is not None
        return op.LayerNormalization(x, scale, bias, **node.attributes)


RULES = rewriting.rules_of(_FromParts, _Bias, commute=True)
