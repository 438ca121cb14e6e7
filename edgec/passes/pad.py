"""Pad ∘ Conv -> Conv: zero padding that a convolution can do itself."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRule
from onnxscript.rewriter.rules.common._fuse_pad_into_conv import FuseConvPad

from edgec.passes import rewriting
from edgec.passes.report import Log
from edgec.passes.values import array, input_at, opset


def apply(model: ir.Model, log: Log) -> None:
    """Folds constant zero padding into the convolution that reads it, with onnxscript's rule.

    1. Pad by constant, non-negative amounts, of the spatial axes only, with zero: added to the Conv's own pads.
    2. Any other mode, amount, axis or value, an unknown rank, or a Conv with auto_pad: left alone, with the reason.
    3. Operator set 10 and older, where the amounts are an attribute: left alone.
    4. The Pad stays where something else reads it too.
    """
    rewriting.apply(model, RULES, log)


class _PadIntoConv(FuseConvPad):
    """onnxscript's rule, guarded against the old form of Pad and against missing inputs."""

    def check(self, context: Any, x: ir.Value, pad: ir.Value, conv: ir.Value) -> MatchResult:
        node = pad.producer()
        if opset(context.model) < 11 or x is None or node is None:
            return rewriting.no()
        fill, axes = input_at(node, 2), input_at(node, 3)
        if array(input_at(node, 1)) is None:
            return rewriting.no("The amounts are not constant")
        if (fill is not None and array(fill) is None) or (axes is not None and array(axes) is None):
            return rewriting.no("The fill value or the axes are not constant")
        return super().check(context, x, pad, conv)


def _rule() -> RewriteRule:
    instance = _PadIntoConv()
    instance.name = "Pad into Conv"
    return RewriteRule(
        instance.pattern, instance.rewrite, instance.check, name=instance.name, remove_nodes=instance.remove_nodes
    )


RULES = [_rule()]
