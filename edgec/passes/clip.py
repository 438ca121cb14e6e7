"""Relu, Clip, Max and Min with constant bounds, one after another, become one Clip (or Relu)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import input_at, opset, rank, scalar, tensor_like


def apply(model: ir.Model, log: Log) -> None:
    """Merges bounds: clip(clip(x, a, b), c, d) is clip(x, clip(a, c, d), clip(b, c, d)), also where they don't meet.

    1. Relu ∘ Relu -> Relu.
    2. Relu ∘ Clip, Clip ∘ Relu, Clip ∘ Clip -> Clip with both bounds, or Relu where they are 0 and none.
    3. Min(Max(x, a), b), Max(Min(x, b), a) -> Clip, a and b one number each.
    4. Bounds that are no constants, or a lower bound above the upper: left alone, with the reason.
    5. Operator set 10 and older (bounds are attributes there), other types than float and double: left alone.
    6. The inner result is used elsewhere too: it stays, and the outer reads x.
    """
    rewriting.apply(model, RULES, log)


Bounds = tuple[float, float]


def _bounds(node: ir.Node) -> Bounds | None:
    """(low, high) of a Relu, Clip, or Max or Min with a one-element constant; None where they are not constant."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type == "Clip":
        low, high = input_at(node, 1), input_at(node, 2)
        numbers = (-math.inf if low is None else scalar(low), math.inf if high is None else scalar(high))
        return None if None in numbers else (float(numbers[0]), float(numbers[1]))  # type: ignore[arg-type]
    if len(node.inputs) != 2:
        return None
    number = next((s for s in map(scalar, node.inputs) if s is not None), None)
    if number is None:
        return None
    return (float(number), math.inf) if node.op_type == "Max" else (-math.inf, float(number))


def _merged(inner: Bounds, outer: Bounds) -> Bounds:
    low, high = (min(max(bound, outer[0]), outer[1]) for bound in inner)
    return low, high


class _Pair(rewriting.Rule):
    bypass = True
    outer: ClassVar[str]
    inner: ClassVar[str]

    def pattern(self, op: Any, x: Any) -> Any:
        inner = getattr(op, self.inner)(x, _allow_other_inputs=True, _outputs=["first"])
        return getattr(op, self.outer)(inner, _allow_other_inputs=True, _outputs=["second"])

    def check(self, context: Any, x: ir.Value, first: ir.Value, second: ir.Value, **_: Any) -> MatchResult:
        inner, outer = first.producer(), second.producer()
        if inner is None or outer is None or x.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
            return rewriting.no()
        if opset(context.model) < 11:
            return rewriting.no("Clip has its bounds as attributes before operator set 11")
        if "Max" in (self.inner, self.outer):
            return self._check_extremes(x, inner, outer)
        bounds = _bounds(inner), _bounds(outer)
        if bounds[0] is None or bounds[1] is None:
            return rewriting.no("The bounds are not constants")
        if any(low > high or math.isnan(low) or math.isnan(high) for low, high in (bounds[0], bounds[1])):
            return rewriting.no("A lower bound is above the upper bound")
        return rewriting.yes()

    def _check_extremes(self, x: ir.Value, inner: ir.Node, outer: ir.Node) -> MatchResult:
        first, second = _bounds(inner), _bounds(outer)
        if first is None or second is None or scalar(x) is not None:
            return rewriting.no()
        constants = [v for n in (inner, outer) for v in n.inputs if scalar(v) is not None]
        known = rank(x)
        if any(rank(c) and (known is None or (rank(c) or 0) > known) for c in constants):
            return rewriting.no("A bound has more axes than x, or the axes of x are not known")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, first: ir.Value, second: ir.Value, **_: Any) -> Any:
        inner, outer = first.producer(), second.producer()
        assert inner is not None and outer is not None and x.dtype is not None
        one, two = _bounds(inner), _bounds(outer)
        assert one is not None and two is not None
        low, high = _merged(one, two)
        if (low, high) == (0.0, math.inf):
            return op.Relu(x)
        inputs: list[ir.Value | None] = [x]
        inputs.append(None if low == -math.inf else _bound(op, low, x.dtype, f"{second.name}/min"))
        if high != math.inf:
            inputs.append(_bound(op, high, x.dtype, f"{second.name}/max"))
        return op.Clip(*inputs)


def _bound(op: Any, number: float, dtype: ir.DataType, name: str) -> Any:
    return op.initializer(tensor_like(np.array(number), dtype), name=name)


class _ExtremePair(_Pair):
    """Max and Min have two operands, either of which may be the constant."""

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:  # type: ignore[override]
        inner = getattr(op, self.inner)(x, a, _outputs=["first"])
        return getattr(op, self.outer)(inner, b, _outputs=["second"])


class _ExtremePairSwapped(_Pair):
    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Any:  # type: ignore[override]
        inner = getattr(op, self.inner)(a, x, _outputs=["first"])
        return getattr(op, self.outer)(inner, b, _outputs=["second"])


class _ReluRelu(_Pair):
    title, outer, inner = "Relu ∘ Relu", "Relu", "Relu"


class _ReluClip(_Pair):
    title, outer, inner = "Relu ∘ Clip", "Relu", "Clip"


class _ClipRelu(_Pair):
    title, outer, inner = "Clip ∘ Relu", "Clip", "Relu"


class _ClipClip(_Pair):
    title, outer, inner = "Clip ∘ Clip", "Clip", "Clip"


class _MinMax(_ExtremePair):
    title, outer, inner = "Min ∘ Max", "Min", "Max"


class _MaxMin(_ExtremePair):
    title, outer, inner = "Max ∘ Min", "Max", "Min"


class _MinMaxSwapped(_ExtremePairSwapped):
    title, outer, inner = "Min ∘ Max", "Min", "Max"


class _MaxMinSwapped(_ExtremePairSwapped):
    title, outer, inner = "Max ∘ Min", "Max", "Min"


RULES = rewriting.rules_of(_ReluRelu, _ReluClip, _ClipRelu, _ClipClip, _MinMax, _MaxMin, _MinMaxSwapped, _MaxMinSwapped)
