"""HardSigmoid and HardSwish from their parts (Howard et al., 2019: h-swish(x) = x * relu6(x + 3) / 6)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRule

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import opset, rank, scalar

# Exporters write 1/6 as 0.1666667 or as a float32; nothing else lies this near (relative).
_NEAR = 1e-5


def apply(model: ir.Model, log: Log) -> None:
    """Puts hard activations together.

    1. Clip(x + 3, 0, 6) / 6, also * 1/6: HardSigmoid(alpha 1/6, beta 1/2).
    2. x * Clip(x + 3, 0, 6) / 6, in any order of the product: HardSwish (operator set 14 on).
    3. x * HardSigmoid(x) with alpha 1/6, beta 1/2: HardSwish.
    4. Other numbers: left alone, with the reason.
    5. A constant that makes the result bigger than x: left alone.
    6. Other types than float: left alone; engines have no kernels for them.
    """
    rewriting.apply(model, RULES, log)


def _near(value: ir.Value | None, number: float) -> bool:
    found = scalar(value)
    return found is not None and bool(np.isclose(float(found), number, rtol=_NEAR, atol=0 if number else 1e-9))


def _fits(x: ir.Value, *constants: ir.Value | None) -> bool:
    """Whether these one-element constants leave x's shape alone."""
    known = rank(x)
    return all(rank(c) == 0 or (known is not None and (rank(c) or 0) <= known) for c in constants if c is not None)


class _Parts(rewriting.Rule):
    """Clip(x + three, zero, six) with `sixth` the number that divides (or multiplies)."""

    divides: ClassVar[bool] = True
    swish: ClassVar[bool] = True

    def check(
        self,
        context: Any,
        x: ir.Value,
        three: ir.Value,
        low: ir.Value | None,
        high: ir.Value | None,
        sixth: ir.Value,
        **_: Any,
    ) -> MatchResult:
        if scalar(three) is None or scalar(sixth) is None:
            return rewriting.no()
        if self.swish and opset(context.model) < 14:
            return rewriting.no("HardSwish needs operator set 14")
        if x.dtype != ir.DataType.FLOAT:
            return rewriting.no()
        if not _near(three, 3.0) or not _near(low, 0.0) or not _near(high, 6.0):
            return rewriting.no(f"Not clip(x + 3, 0, 6) but clip(x + {scalar(three)}, {scalar(low)}, {scalar(high)})")
        if not _near(sixth, 6.0 if self.divides else 1 / 6):
            return rewriting.no(f"The last constant is {scalar(sixth)}, not {'6' if self.divides else '1/6'}")
        if not _fits(x, three, sixth):
            return rewriting.no("A constant has more axes than x, or the axes of x are not known")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.HardSwish(x) if self.swish else op.HardSigmoid(x, alpha=1 / 6, beta=0.5)


class _SwishProductFirst(_Parts):
    title = "HardSwish from (x * Clip) / 6"

    def pattern(self, op: Any, x: Any, three: Any, low: Any, high: Any, sixth: Any) -> Any:
        return op.Div(op.Mul(x, op.Clip(op.Add(x, three), low, high)), sixth)


class _SwishProductFirstTimes(_Parts):
    title, divides = "HardSwish from (x * Clip) * 1/6", False

    def pattern(self, op: Any, x: Any, three: Any, low: Any, high: Any, sixth: Any) -> Any:
        return op.Mul(op.Mul(x, op.Clip(op.Add(x, three), low, high)), sixth)


class _SigmoidDivided(_Parts):
    title, swish = "HardSigmoid from Clip / 6", False

    def pattern(self, op: Any, x: Any, three: Any, low: Any, high: Any, sixth: Any) -> Any:
        return op.Div(op.Clip(op.Add(x, three), low, high), sixth)


class _SigmoidTimes(_Parts):
    title, swish, divides = "HardSigmoid from Clip * 1/6", False, False

    def pattern(self, op: Any, x: Any, three: Any, low: Any, high: Any, sixth: Any) -> Any:
        return op.Mul(op.Clip(op.Add(x, three), low, high), sixth)


class _SwishFromSigmoid(rewriting.Rule):
    title = "HardSwish from x * HardSigmoid"

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Mul(x, op.HardSigmoid(x, _outputs=["gate"]))

    def check(self, context: Any, x: ir.Value, gate: ir.Value) -> MatchResult:
        node = gate.producer()
        if node is None or x.dtype != ir.DataType.FLOAT:
            return rewriting.no()
        if opset(context.model) < 14:
            return rewriting.no("HardSwish needs operator set 14")
        # The operator's defaults are alpha 0.2 and beta 0.5.
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        if not np.isclose(alpha, 1 / 6, rtol=_NEAR) or not np.isclose(beta, 0.5, rtol=_NEAR):
            return rewriting.no(f"The HardSigmoid has alpha {alpha:.6g} and beta {beta:.6g}, not 1/6 and 1/2")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, gate: ir.Value) -> Any:
        return op.HardSwish(x)


RULES: list[RewriteRule] = rewriting.rules_of(
    _SwishProductFirst, _SwishProductFirstTimes, _SigmoidDivided, _SigmoidTimes, _SwishFromSigmoid, commute=True
)
