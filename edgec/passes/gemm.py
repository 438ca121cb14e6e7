"""Add ∘ MatMul -> Gemm: a fully connected layer is one node, with its bias."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import FOLDABLE, array, opset, rank, static_shape


def apply(model: ir.Model, log: Log) -> None:
    """Puts fully connected layers together.

    1. MatMul of a matrix and a constant matrix, plus a constant of one number a column: Gemm.
    2. An input with more or fewer axes than two (as in a transformer): left alone, with the reason.
    3. What is added is not one number a column: left alone, with the reason.
    """
    rewriting.apply(model, RULES, log)


class _MatMulAdd(rewriting.Rule):
    title = "Gemm from MatMul + bias"

    def pattern(self, op: Any, x: Any, weight: Any, bias: Any) -> Any:
        return op.Add(op.MatMul(x, weight), bias)

    def check(self, context: Any, x: ir.Value, weight: ir.Value, bias: ir.Value) -> MatchResult:
        if array(weight) is None or array(bias) is None or weight.dtype not in FOLDABLE or opset(context.model) < 7:
            return rewriting.no()
        shape, added = static_shape(weight), static_shape(bias)
        if rank(x) != 2 or shape is None or len(shape) != 2:
            return rewriting.no(f"The input has {'unknown' if rank(x) is None else rank(x)} axes, not two")
        if added not in ((shape[1],), (1, shape[1])):
            return rewriting.no("What is added is not one number a column")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, weight: ir.Value, bias: ir.Value) -> Any:
        return op.Gemm(x, weight, bias)


RULES = rewriting.rules_of(_MatMulAdd, commute=True)
