"""From an ONNX model to the one that TVM imports: one graph, fixed shapes, what is constant computed, nodes with names.

1. Functions are inlined; an input with a default value that nobody overrides is that value.
2. A first dimension of an input that is symbolic becomes 1; any other one is refused, naming the input.
3. Shapes are inferred anew and constants folded, until nothing changes: shape arithmetic must be gone before TVM.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgec_targets.emitters import fixed
from edgec_targets.types import Problem

_ROUNDS = 8
_MOST_BYTES = 32 << 20
"""A folded constant may be this large: weights that a model transposes or casts before use."""


def prepare(model: ir.Model) -> tuple[ir.Model, list[Problem]]:
    """A prepared copy of `model`, and what can't be made fixed."""
    copy = model.clone()
    if copy.functions:
        common.InlinePass()(copy)
    for value in [v for v in copy.graph.inputs if v.name in copy.graph.initializers]:
        copy.graph.inputs.remove(value)
    problems = fixed.sizes(copy, "a compiled model's") or _names(copy)
    if problems:
        return copy, problems
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    try:
        with fixed.quiet(), np.errstate(all="ignore"):
            _settle(copy)
    except Exception as e:  # the folder runs ONNX's reference operators, which may raise anything
        why = f"Its constants can't be folded: {' '.join(str(e).split())[:300]}"
        return copy, [Problem("the model", "", why, "Use the onnxruntime payload.")]
    common.TopologicalSortPass()(copy)
    for number, node in enumerate(copy.graph):
        node.name = node.name or f"{node.op_type}_{number}"
    return copy, []


def _settle(model: ir.Model) -> None:
    from onnxscript.optimizer import fold_constants

    infer = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    for _ in range(_ROUNDS):
        for node in model.graph.all_nodes():  # a symbol that was made up would be kept once more is known
            for value in node.outputs:
                if value.shape is not None and any(not isinstance(d, int) for d in value.shape):
                    value.shape = None
        infer(model)
        done = fold_constants(
            model, onnx_shape_inference=True, input_size_limit=_MOST_BYTES, output_size_limit=_MOST_BYTES
        )
        if not done.modified:
            break
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedNodesPass()(model)
    infer(model)


def _names(model: ir.Model) -> list[Problem]:
    """Inputs' and outputs' names stand in the payload as lines of text."""
    for value in (*model.graph.inputs, *model.graph.outputs):
        if "\n" in (value.name or "") or "\0" in (value.name or ""):
            return [Problem(repr(value.name), "", "Its name has a line break in it.", "Rename it in the model.")]
    return []
