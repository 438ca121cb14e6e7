"""From any ONNX model to one that the writer takes: one graph, fixed shapes, what is constant computed.

1. Models older than opset 13 are converted to it; functions are inlined.
2. A first dimension of an input that is symbolic becomes 1; any other one is refused, naming the input.
3. Shape arithmetic and constants are folded (onnxscript's folder). Quantized models are refused.
4. Shapes of all values are inferred anew: what the file said of them held for another batch.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx.version_converter
import onnx_ir as ir
from onnx_ir.passes import common

from edgec_targets.emitters.fixed import quiet
from edgec_targets.numbers import numbers
from edgec_targets.types import Problem

_OLDEST, _IR = 13, 8
"""The opset whose Softmax, Squeeze and Reduce… the writers know."""
_MOST_BYTES = 32 << 20
"""A folded constant may be this large."""
_ROUNDS = 20
_SHAPE_KEPT = ("GroupNormalization", "MeanVarianceNormalization", "LpNormalization", "Mish", "Swish")
"""Operators whose shapes ONNX's inference doesn't know everywhere."""
_FIX = "Use another engine's payload."


def prepare(model: ir.Model) -> tuple[ir.Model, list[Problem]]:
    """A prepared copy of `model`, and what can't be made so."""
    copy = model.clone()
    kind = numbers(copy)
    if kind != "float32":
        why = "It computes with integers" if kind == "int8" else "It computes in half precision"
        return copy, [Problem("the model", "", f"{why}; ncnn payloads are made of float32 models.", _FIX)]
    if copy.opset_imports.get("", _OLDEST) < _OLDEST:
        copy.ir_version = max(copy.ir_version or 0, _IR)
        try:
            copy = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(copy), _OLDEST))
        except Exception as e:  # a C++ exception without a class of its own
            why = f"It is of opset {model.opset_imports.get('')}, and onnx can't convert it: {' '.join(str(e).split())}"
            return copy, [Problem("the model", "", why[:400], f"Export it with opset {_OLDEST} or newer.")]
    if copy.functions:
        common.InlinePass()(copy)
    for value in [v for v in copy.graph.inputs if v.name in copy.graph.initializers]:
        copy.graph.inputs.remove(value)  # a default that nobody overrides: the file has no defaults
    problems = _fix_inputs(copy)
    if problems:
        return copy, problems
    for node in copy.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
    try:
        with quiet(), np.errstate(all="ignore"):
            _settle(copy)
    except Exception as e:  # the folder runs ONNX's reference operators, which may raise anything
        why = f"Its constants can't be folded: {' '.join(str(e).split())[:300]}"
        return copy, [Problem("the model", "", why, _FIX)]
    common.TopologicalSortPass()(copy)
    return copy, []


def fixed(model: ir.Model) -> ir.Model:
    """A copy whose symbolic first dimensions are 1: the model that a converted file is compared with."""
    copy = model.clone()
    _fix_inputs(copy)
    return copy


def _fix_inputs(model: ir.Model) -> list[Problem]:
    problems = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers:
            continue
        where = f"input '{value.name}'"
        dims = list(value.shape) if value.shape is not None else None
        if dims is None or any(not isinstance(d, int) or d < 1 for d in dims[1:]):
            what = "no shape" if dims is None else f"shape {value.shape}"
            fix = f"Give its whole shape: --shape {value.name}=1,3,224,224 (your own numbers)."
            problems.append(Problem(where, "", f"It has {what}: an ncnn file's shapes are fixed.", fix))
        elif value.dtype != ir.DataType.FLOAT:
            problems.append(Problem(where, "", f"It is {value.dtype}; ncnn's inputs are float32.", _FIX))
        elif dims and (not isinstance(dims[0], int) or dims[0] < 1):
            value.shape = ir.Shape([1, *dims[1:]])
    return problems


def _settle(model: ir.Model) -> None:
    """Shapes and folding until nothing changes."""
    from onnxscript.optimizer import fold_constants

    infer = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)
    for _ in range(_ROUNDS):
        for node in model.graph.all_nodes():
            for value in node.outputs:  # what was made up for lack of knowledge would be kept
                if value.shape is not None and any(not isinstance(d, int) for d in value.shape):
                    value.shape = None
        infer(model)
        if sum(_same_shape(node) for node in model.graph):
            infer(model)
        result = fold_constants(
            model,
            onnx_shape_inference=True,
            input_size_limit=_MOST_BYTES,
            output_size_limit=_MOST_BYTES,
            should_fold=lambda node: True if node.op_type == "ConstantOfShape" else None,
        )
        if not result.modified:
            break
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveUnusedNodesPass()(model)
    infer(model)


def _same_shape(node: ir.Node) -> bool:
    """Give a node's result the shape of its input, where that is so and wasn't known."""
    first = node.inputs[0] if node.inputs else None
    if node.op_type not in _SHAPE_KEPT or first is None or first.shape is None or node.outputs[0].shape is not None:
        return False
    node.outputs[0].shape, node.outputs[0].type = first.shape, first.type
    return True
