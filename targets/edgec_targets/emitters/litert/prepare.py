"""From any ONNX model to one that the writer takes: one graph, fixed shapes, what is constant computed.

1. Models older than opset 13 are converted to it; functions are inlined.
2. A first dimension of an input that is symbolic becomes 1; any other one is refused, naming the input.
3. Shape arithmetic, constants and If with a constant condition are folded (onnxscript's folder); DequantizeLinear
   never. An If whose condition is computed runs both branches (`conditions`).
4. Quantized operators become their float operators between Q/DQ (`qoperators`, `runtime_scales`).
5. Operators without a writer become the bodies that ONNX defines for them (Attention, SwiGLU …).
6. Shapes of all values are inferred anew: what the file said of them held for another batch.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common

from edgec_targets.emitters import fixed
from edgec_targets.emitters.litert import conditions, qoperators, runtime_scales
from edgec_targets.emitters.litert.registry import find
from edgec_targets.types import Problem

_KEPT = ("DequantizeLinear", "DynamicQuantizeLinear")
_TOLD = ("ConstantOfShape", "QuantizeLinear")
"""What the folder leaves alone by itself."""
_SHAPE_KEPT = ("GroupNormalization", "MeanVarianceNormalization", "LpNormalization")
_MOST_BYTES = 32 << 20
"""A folded constant may be this large: weights that a model transposes or casts before use."""
_ROUNDS = 40
_OLDEST, _IR = 13, 8
"""The opset whose Softmax, Squeeze and Reduce… the writers know; older models are converted."""


def prepare(model: ir.Model) -> tuple[ir.Model, list[Problem]]:
    """A prepared copy of `model`, and what can't be made fixed."""
    copy = model.clone()
    if copy.opset_imports.get("", _OLDEST) < _OLDEST:
        copy.ir_version = max(copy.ir_version or 0, _IR)  # before 4, initializers had to be inputs as well
        try:
            copy = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(copy), _OLDEST))
        except Exception as e:  # a C++ exception without a class of its own
            why = f"It is of opset {model.opset_imports.get('')}, and onnx can't convert it: {' '.join(str(e).split())}"
            return copy, [Problem("the model", "", why, f"Export it with opset {_OLDEST} or newer.")]
    if copy.functions:
        common.InlinePass()(copy)
    for value in [v for v in copy.graph.inputs if v.name in copy.graph.initializers]:
        copy.graph.inputs.remove(value)  # a default that nobody overrides: the file has no defaults
    problems = fixed.sizes(copy, "a TFLite file's")
    if problems:
        return copy, problems
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    try:
        with fixed.quiet(), np.errstate(all="ignore"):
            _settle(copy)
            if runtime_scales.rewrite(copy) | qoperators.rewrite(copy):
                _settle(copy)
            if (bodies := _with_bodies(copy)) is not None:
                copy = bodies
                _settle(copy)
    except Exception as e:  # the folder runs ONNX's reference operators, which may raise anything
        why = f"Its constants can't be folded: {' '.join(str(e).split())[:300]}"
        return copy, [Problem("the model", "", why, "Use the onnxruntime payload.")]
    for node in copy.graph:
        _same_shape(node)
    common.TopologicalSortPass()(copy)
    return copy, []


def _settle(model: ir.Model) -> None:
    """Shapes, folding and If, until nothing changes."""
    infer = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    for _ in range(_ROUNDS):
        _forget(model)
        infer(model)
        # An If that only asks for a rank or a size folds once shapes are known: first all that folds.
        if not _fold(model) and not conditions.select(model):
            break
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedNodesPass()(model)
    infer(model)


def _with_bodies(model: ir.Model) -> ir.Model | None:
    """The model with the operators that nobody writes replaced by the bodies that ONNX defines for them, if it does."""
    unknown = {(node.domain, node.op_type) for node in model.graph if find(node) is None}
    if not unknown:
        return None
    proto = ir.to_proto(model)
    try:
        made = onnx.inliner.inline_selected_functions(proto, sorted(unknown), inline_schema_functions=True)
    except Exception:  # a body that needs a type that isn't known: the operator is refused by its name
        return None
    return None if len(made.graph.node) == len(proto.graph.node) else ir.from_proto(made)


def _forget(model: ir.Model) -> None:
    """Shapes with symbols: what was made up for lack of knowledge is kept by the library once more is known."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and any(not isinstance(d, int) for d in value.shape):
                value.shape = None


def _same_shape(node: ir.Node) -> None:
    """Operators that ONNX's inference knows nothing of, since they are functions to it."""
    first = node.inputs[0] if node.inputs else None
    if node.op_type in _SHAPE_KEPT and first is not None and node.outputs[0].shape is None:
        node.outputs[0].shape, node.outputs[0].type = first.shape, first.type


def _fold(model: ir.Model) -> bool:
    from onnxscript.optimizer import fold_constants

    def may(node: ir.Node) -> bool | None:
        if node.op_type in _KEPT:
            return False  # a QuantizeLinear of weights is folded: what it gives is what is stored
        return True if node.op_type in _TOLD else None

    result = fold_constants(
        model,
        onnx_shape_inference=True,
        input_size_limit=_MOST_BYTES,
        output_size_limit=_MOST_BYTES,
        should_fold=may,
    )
    return bool(result.modified)
