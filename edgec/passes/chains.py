"""Two data movements in a row become one: Reshape, Transpose, Cast, Unsqueeze, Squeeze, Slice of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import MatchResult

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import input_at, integers, opset, rank

_T = ir.DataType
# Casts that keep every value exactly, so that a further Cast may start from the source. (ONNX: IEEE 754 conversions.)
_EXACT = {
    (_T.FLOAT16, _T.FLOAT), (_T.FLOAT16, _T.DOUBLE), (_T.BFLOAT16, _T.FLOAT), (_T.BFLOAT16, _T.DOUBLE),
    (_T.FLOAT, _T.DOUBLE),
    *((a, b) for a in (_T.UINT8, _T.INT8, _T.INT16, _T.UINT16) for b in (_T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE)),
    (_T.INT32, _T.INT64), (_T.INT32, _T.DOUBLE), (_T.UINT8, _T.INT16), (_T.INT8, _T.INT16),
    *((_T.BOOL, b) for b in (_T.UINT8, _T.INT8, _T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE, _T.FLOAT16)),
}  # fmt: skip


def apply(model: ir.Model, log: Log) -> None:
    """Merges pairs; the first of a pair stays where something else uses it.

    1. Reshape ∘ Reshape -> Reshape, where the second target has no 0 (which would copy a size of the first's result).
       Also Reshape ∘ Flatten, ∘ Squeeze, ∘ Unsqueeze.
    2. Transpose ∘ Transpose -> Transpose.
    3. Cast ∘ Cast -> Cast, where the first loses nothing.
    4. Unsqueeze ∘ Unsqueeze and Squeeze ∘ Squeeze -> one, with constant axes (operator set 13 on).
    5. Slice ∘ Slice -> Slice, where they cut different axes.
    """
    rewriting.apply(model, RULES, log)


class _IntoReshape(rewriting.Rule):
    bypass = True
    inner: str

    def pattern(self, op: Any, x: Any, shape: Any) -> Any:
        return op.Reshape(getattr(op, self.inner)(x, _allow_other_inputs=True), shape, _outputs=["y"])

    def check(self, context: Any, shape: ir.Value, y: ir.Value, **_: Any) -> MatchResult:
        target = integers(shape)
        if target is None:
            return rewriting.no("The second shape is not a constant")
        node = y.producer()
        if 0 in target:
            return rewriting.no("The second shape copies a dimension of the first result")
        return rewriting.yes() if node is not None else rewriting.no()

    def rewrite(self, op: Any, x: ir.Value, shape: ir.Value, y: ir.Value) -> Any:
        return op.Reshape(x, shape)


class _ReshapeReshape(_IntoReshape):
    title, inner = "Reshape ∘ Reshape", "Reshape"


class _ReshapeFlatten(_IntoReshape):
    title, inner = "Reshape ∘ Flatten", "Flatten"


class _ReshapeSqueeze(_IntoReshape):
    title, inner = "Reshape ∘ Squeeze", "Squeeze"


class _ReshapeUnsqueeze(_IntoReshape):
    title, inner = "Reshape ∘ Unsqueeze", "Unsqueeze"


def _permutation(node: ir.Node | None) -> list[int] | None:
    if node is None:
        return None
    perm = node.attributes.get_ints("perm", None)
    if perm is not None:
        return list(perm)
    dims = rank(node.inputs[0])
    return None if dims is None else list(reversed(range(dims)))


class _TransposeTranspose(rewriting.Rule):
    title, bypass = "Transpose ∘ Transpose", True

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Transpose(op.Transpose(x, _outputs=["inner"]), _outputs=["y"])

    def check(self, context: Any, inner: ir.Value, y: ir.Value, **_: Any) -> MatchResult:
        first, second = _permutation(inner.producer()), _permutation(y.producer())
        if first is None or second is None or len(first) != len(second):
            return rewriting.no("The number of dimensions is not known")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, inner: ir.Value, y: ir.Value) -> Any:
        first, second = _permutation(inner.producer()), _permutation(y.producer())
        assert first is not None and second is not None
        merged = [first[p] for p in second]
        return op.Identity(x) if merged == sorted(merged) else op.Transpose(x, perm=merged)


class _CastCast(rewriting.Rule):
    title, bypass = "Cast ∘ Cast", True

    def pattern(self, op: Any, x: Any) -> Any:
        return op.Cast(op.Cast(x, _outputs=["inner"]), _outputs=["y"])

    def check(self, context: Any, x: ir.Value, inner: ir.Value, y: ir.Value) -> MatchResult:
        if x.dtype is None or inner.dtype is None or y.producer() is None:
            return rewriting.no("The type of the input is not known")
        if (x.dtype, inner.dtype) not in _EXACT:
            return rewriting.no(f"The first Cast, {x.dtype.name} to {inner.dtype.name}, may round")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, inner: ir.Value, y: ir.Value) -> Any:
        node = y.producer()
        assert node is not None and x.dtype is not None
        to = node.attributes.get_int("to", 0)
        return op.Identity(x) if x.dtype == to else op.Cast(x, to=to)


class _UnsqueezeUnsqueeze(rewriting.Rule):
    title, bypass = "Unsqueeze ∘ Unsqueeze", True

    def pattern(self, op: Any, x: Any, first: Any, second: Any) -> Any:
        return op.Unsqueeze(op.Unsqueeze(x, first), second, _outputs=["y"])

    def check(self, context: Any, x: ir.Value, first: ir.Value, second: ir.Value, **_: Any) -> MatchResult:
        if opset(context.model) < 13:
            return rewriting.no()
        if integers(first) is None or integers(second) is None or rank(x) is None:
            return rewriting.no("The axes are not constant, or the number of dimensions is not known")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, first: ir.Value, second: ir.Value, y: ir.Value) -> Any:
        dims, inner, outer = rank(x), integers(first), integers(second)
        assert dims is not None and inner is not None and outer is not None
        # Where each axis of x ends up: the axes that are not new, in order, first in the inner and then in the outer.
        middle = dims + len(inner)
        new_inner = {a % middle for a in inner}
        last = middle + len(outer)
        new_outer = {a % last for a in outer}
        kept = [a for a in range(last) if a not in new_outer]
        axes = sorted(new_outer | {kept[a] for a in new_inner})
        return op.Unsqueeze(x, op.initializer(ir.Tensor(np.array(axes, np.int64)), name=f"{y.name}/axes"))


class _SqueezeSqueeze(rewriting.Rule):
    title, bypass = "Squeeze ∘ Squeeze", True

    def pattern(self, op: Any, x: Any, first: Any, second: Any) -> Any:
        return op.Squeeze(op.Squeeze(x, first), second, _outputs=["y"])

    def check(
        self, context: Any, x: ir.Value, first: ir.Value | None, second: ir.Value | None, **_: Any
    ) -> MatchResult:
        if opset(context.model) < 13:
            return rewriting.no()
        if not integers(first) or not integers(second) or rank(x) is None:
            return rewriting.no("The axes are not constant, or the number of dimensions is not known")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, first: ir.Value, second: ir.Value, y: ir.Value) -> Any:
        dims, inner, outer = rank(x), integers(first), integers(second)
        assert dims is not None and inner is not None and outer is not None
        gone = {a % dims for a in inner}
        kept = [a for a in range(dims) if a not in gone]
        axes = sorted(gone | {kept[a] for a in outer})
        return op.Squeeze(x, op.initializer(ir.Tensor(np.array(axes, np.int64)), name=f"{y.name}/axes"))


class _SliceSlice(rewriting.Rule):
    title, bypass = "Slice ∘ Slice", True

    def pattern(self, op: Any, x: Any) -> Any:
        inner = op.Slice(x, _allow_other_inputs=True, _outputs=["inner"])
        return op.Slice(inner, _allow_other_inputs=True, _outputs=["y"])

    def check(self, context: Any, x: ir.Value, inner: ir.Value, y: ir.Value) -> MatchResult:
        if opset(context.model) < 10:
            return rewriting.no()
        first, second = _cuts(inner.producer()), _cuts(y.producer())
        if first is None or second is None or rank(x) is None:
            return rewriting.no("The bounds are not constant, or the number of dimensions is not known")
        dims = rank(x) or 1
        if {a % dims for a in first[2]} & {a % dims for a in second[2]}:
            return rewriting.no("Both cut the same axis")
        return rewriting.yes()

    def rewrite(self, op: Any, x: ir.Value, inner: ir.Value, y: ir.Value) -> Any:
        first, second = _cuts(inner.producer()), _cuts(y.producer())
        assert first is not None and second is not None
        words = ("starts", "ends", "axes", "steps")
        return op.Slice(
            x,
            *(
                op.initializer(ir.Tensor(np.array(a + b, np.int64)), name=f"{y.name}/{word}")
                for a, b, word in zip(first, second, words, strict=True)
            ),
        )


def _cuts(node: ir.Node | None) -> tuple[list[int], list[int], list[int], list[int]] | None:
    """starts, ends, axes, steps of a Slice, where constant."""
    if node is None:
        return None
    starts, ends = integers(input_at(node, 1)), integers(input_at(node, 2))
    if starts is None or ends is None:
        return None
    axes = integers(input_at(node, 3)) if input_at(node, 3) is not None else list(range(len(starts)))
    steps = integers(input_at(node, 4)) if input_at(node, 4) is not None else [1] * len(starts)
    return None if axes is None or steps is None else (starts, ends, axes, steps)


RULES = rewriting.rules_of(
    _ReshapeReshape, _ReshapeFlatten, _ReshapeSqueeze, _ReshapeUnsqueeze, _TransposeTranspose, _CastCast,
    _UnsqueezeUnsqueeze, _SqueezeSqueeze, _SliceSlice,
)  # fmt: skip
