"""Removes nodes that hand their input on: Cast to the type it has, Reshape to the shape it has, `x * 1`, …"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import identity, rewriting
from edgec.passes.report import Log
from edgec.passes.values import array, input_at, integers, opset, rank, same_shape, scalar, static_shape

# Slice ends at or beyond this mean "to the end"; exporters write INT32_MAX or INT64_MAX.
_TO_THE_END = (1 << 31) - 1


def apply(model: ir.Model, log: Log) -> None:
    """Replaces each of these by its input.

    1. Cast, CastLike to the type it has.
    2. Reshape, Expand, Flatten, Squeeze, Unsqueeze to the shape it has (by number or by name).
    3. Transpose that moves nothing.
    4. Slice of everything, Pad by nothing, Tile once.
    5. Dropout when not training, where nobody reads its mask.
    6. Concat, Sum, Max, Min, Mean of one input.
    7. x * 1, x / 1, x + 0, x - 0, x ** 1, where the constant does not make the result bigger.
    8. Anything whose shape or constant is not known stays.
    """
    rewriting.apply(model, RULES, log)
    identity.apply(model, Log())


class _NoOp(rewriting.Rule):
    op_type: ClassVar[str]

    def pattern(self, op: Any, x: Any) -> Any:
        return getattr(op, self.op_type)(x, _allow_other_inputs=True, _outputs=["y"])

    def check(self, context: Any, x: ir.Value | None, y: ir.Value, **_: Any) -> MatchResult:
        node = y.producer()
        if x is None or node is None:
            return rewriting.no()
        return rewriting.yes() if self.same(node, x, y, opset(context.model)) else rewriting.no()

    def rewrite(self, op: Any, x: ir.Value, **_: Any) -> Any:
        return op.Identity(x)

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        """Whether y is x."""
        raise NotImplementedError


class _NoCast(_NoOp):
    title, op_type = "Cast to the same type", "Cast"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        return x.dtype is not None and x.dtype == node.attributes.get_int("to", 0)


class _NoCastLike(_NoOp):
    title, op_type = "CastLike to the same type", "CastLike"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        like = input_at(node, 1)
        return like is not None and x.dtype is not None and x.dtype == like.dtype


class _SameShape(_NoOp):
    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        return same_shape(x, y)


class _NoReshape(_SameShape):
    title, op_type = "Reshape to the same shape", "Reshape"


class _NoExpand(_SameShape):
    title, op_type = "Expand to the same shape", "Expand"


class _NoFlatten(_SameShape):
    title, op_type = "Flatten to the same shape", "Flatten"


class _NoSqueeze(_SameShape):
    title, op_type = "Squeeze of nothing", "Squeeze"


class _NoUnsqueeze(_SameShape):
    title, op_type = "Unsqueeze of nothing", "Unsqueeze"


class _NoTranspose(_NoOp):
    title, op_type = "Transpose of nothing", "Transpose"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        perm = node.attributes.get_ints("perm", None)
        if perm is None:
            return rank(x) in (0, 1)
        if list(perm) == sorted(perm):
            return True
        shape = static_shape(x)  # moving axes of size 1 about moves no element, but it must not change the shape
        if shape is None or len(shape) != len(perm) or [shape[p] for p in perm] != list(shape):
            return False
        moved = [p for p in perm if shape[p] != 1]
        return moved == sorted(moved)


class _NoSlice(_NoOp):
    title, op_type = "Slice of everything", "Slice"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        if version < 10:
            return False
        starts, ends = integers(input_at(node, 1)), integers(input_at(node, 2))
        steps = integers(input_at(node, 4)) if input_at(node, 4) is not None else None
        if input_at(node, 4) is not None and (steps is None or any(s != 1 for s in steps)):
            return False
        if starts is None or ends is None:
            return False
        if any(s != 0 for s in starts):
            return False
        return all(e >= _TO_THE_END for e in ends) or (static_shape(x) is not None and same_shape(x, y))


class _NoPad(_NoOp):
    title, op_type = "Pad by nothing", "Pad"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        pads = node.attributes.get_ints("pads", None) if version < 11 else integers(input_at(node, 1))
        return pads is not None and all(p == 0 for p in pads)


class _NoTile(_NoOp):
    title, op_type = "Tile once", "Tile"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        repeats = integers(input_at(node, 1))
        return version >= 6 and repeats is not None and all(r == 1 for r in repeats)


class _NoDropout(_NoOp):
    title, op_type = "Dropout when not training", "Dropout"

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        if version < 7:
            return bool(node.attributes.get_int("is_test", 0))
        training = input_at(node, 2)
        return training is None or scalar(training) is False


class _OfOne(_NoOp):
    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        return len(node.inputs) == 1


class _NoConcat(_OfOne):
    title, op_type = "Concat of one", "Concat"


class _NoSum(_OfOne):
    title, op_type = "Sum of one", "Sum"


class _NoMax(_OfOne):
    title, op_type = "Max of one", "Max"


class _NoMin(_OfOne):
    title, op_type = "Min of one", "Min"


class _NoMean(_OfOne):
    title, op_type = "Mean of one", "Mean"


class _Neutral(_NoOp):
    neutral: ClassVar[int]

    def pattern(self, op: Any, x: Any, c: Any) -> Any:  # type: ignore[override]
        return getattr(op, self.op_type)(x, c, _outputs=["y"])

    def same(self, node: ir.Node, x: ir.Value, y: ir.Value, version: int) -> bool:
        for value in node.inputs:
            constant = array(value) if value is not x else None
            if constant is not None and bool(np.all(constant == self.neutral)):
                if x.dtype is None or (self.op_type == "Pow" and x.dtype != y.dtype):
                    return False
                return constant.ndim == 0 or same_shape(x, y) or _only_ones(constant, x)
        return False


def _only_ones(constant: np.ndarray[Any, Any], x: ir.Value) -> bool:
    known = rank(x)
    return constant.size == 1 and known is not None and constant.ndim <= known


class _NoMul(_Neutral):
    title, op_type, neutral = "x * 1", "Mul", 1


class _NoDiv(_Neutral):
    title, op_type, neutral = "x / 1", "Div", 1


class _NoAdd(_Neutral):
    title, op_type, neutral = "x + 0", "Add", 0


class _NoSub(_Neutral):
    title, op_type, neutral = "x - 0", "Sub", 0


class _NoPow(_Neutral):
    title, op_type, neutral = "x ** 1", "Pow", 1


RULES = [
    *rewriting.rules_of(
        _NoCast, _NoCastLike, _NoReshape, _NoExpand, _NoFlatten, _NoSqueeze, _NoUnsqueeze, _NoTranspose, _NoSlice,
        _NoPad, _NoTile, _NoDropout,
        _NoConcat, _NoSum, _NoMax, _NoMin, _NoMean, _NoDiv, _NoSub, _NoPow,
    ),
    *rewriting.rules_of(_NoMul, _NoAdd, commute=True),
]  # fmt: skip
