"""Gelu from its parts: x / 2 * (1 + erf(x / sqrt(2))) (Hendrycks & Gimpel, 2016)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, pattern

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import opset, scalar

# Operator set in which Gelu is an operator.
_SINCE = 20
# Relative distance from sqrt(2), 1/2, 1 that an exporter's float32 may have.
_NEAR = 1e-5


def apply(model: ir.Model, log: Log) -> None:
    """Puts the exact Gelu together. ONNX Runtime goes on to BiasGelu; of MiniLM's six it finds none by itself.

    1. x * (1 + erf(x / sqrt 2)) * 1/2, in any order of the product, also with x * 1/sqrt 2: Gelu (operator set 20 on).
    2. Other constants: left alone, with the reason.
    3. Operator set 19 and older: left alone.
    """
    rewriting.apply(model, RULES, log)


def _is(value: ir.Value | None, number: float) -> bool:
    found = scalar(value)
    return found is not None and bool(np.isclose(float(found), number, rtol=_NEAR))


class _Gelu(rewriting.Rule):
    def _gate(self, op: Any, x: Any, root: Any, one: Any) -> Any:
        scaled = pattern.OrValue([op.Div(x, root), op.Mul(x, root)])
        return op.Add(op.Erf(scaled, _outputs=["erf"]), one)

    def check(
        self, context: Any, x: ir.Value, root: ir.Value, one: ir.Value, half: ir.Value, erf: ir.Value, **_: Any
    ) -> MatchResult:
        scaled = erf.producer().inputs[0] if erf.producer() is not None else None  # type: ignore[union-attr]
        divides = scaled is not None and scaled.producer() is not None and scaled.producer().op_type == "Div"  # type: ignore[union-attr]
        if x.dtype != ir.DataType.FLOAT:
            return rewriting.no()  # engines have no kernels for other types
        if opset(context.model) < _SINCE:
            return rewriting.no(f"Gelu needs operator set {_SINCE}")
        if not _is(root, math.sqrt(2) if divides else math.sqrt(0.5)) or not _is(one, 1.0) or not _is(half, 0.5):
            return rewriting.no("Its constants are not sqrt(2), 1 and 1/2")
        if any(len(c.shape or ()) for c in (root, one, half)):
            return rewriting.no("A constant has axes of its own")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.Gelu(x)


class _HalfLast(_Gelu):
    title = "Gelu from (x * gate) * 1/2"

    def pattern(self, op: Any, x: Any, root: Any, one: Any, half: Any) -> Any:
        return op.Mul(op.Mul(x, self._gate(op, x, root, one)), half)


class _HalfFirst(_Gelu):
    title = "Gelu from (x * 1/2) * gate"

    def pattern(self, op: Any, x: Any, root: Any, one: Any, half: Any) -> Any:
        return op.Mul(op.Mul(x, half), self._gate(op, x, root, one))


class _HalfOfGate(_Gelu):
    title = "Gelu from x * (gate * 1/2)"

    def pattern(self, op: Any, x: Any, root: Any, one: Any, half: Any) -> Any:
        return op.Mul(x, op.Mul(self._gate(op, x, root, one), half))


RULES = rewriting.rules_of(_HalfLast, _HalfFirst, _HalfOfGate, commute=True)
