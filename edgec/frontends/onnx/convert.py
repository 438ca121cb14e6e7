"""Opset conversion upwards, to what the passes and emitters are written for."""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from edgec.frontends.onnx import infer, isolated

WANTED = 21
"""The first opset with int4, and with Q/DQ of blocks and 16 bits; every engine edgec emits for reads it."""

_PYTHON_FROM = 18
"""onnxscript's converter starts here; below it, ONNX's C++ converter."""


def to_at_least(model: ir.Model, wanted: int) -> list[str]:
    """Convert the default domain to `wanted` when it is older. In place.

    Where a node has no adapter the model keeps the opset it has, which is noted: engines read old opsets too.
    """
    have = model.opset_imports.get("", 0)
    if have == 0 or have >= wanted:
        _raise_ir_version(model)
        return []
    reason = _cannot(model, have)
    if not reason:
        copy = model.clone()
        reason = _convert(copy, have, wanted)
        if not reason:
            model.graph = copy.graph  # which holds the opset imports
            _raise_ir_version(model)
            return [f"converted from opset {have} to {wanted}"]
    _raise_ir_version(model)
    return [f"kept at opset {have}: {reason}"]


def _convert(model: ir.Model, have: int, wanted: int) -> str:
    """Empty when it worked, else why not."""
    try:
        if have < _PYTHON_FROM:
            _with_cpp(model, _PYTHON_FROM)
            infer.infer(model)
            reason = _cannot(model, _PYTHON_FROM)
            if reason:
                return reason
        _with_onnxscript(model, wanted)
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        infer.check(model)
        infer.infer(model)
    except Exception as error:  # an adapter is missing or gave up: whatever it raises, the source still stands
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _cannot(model: ir.Model, have: int) -> str:
    """Cases that the converters get wrong without saying so."""
    for node in model.graph.all_nodes():
        if node.domain:
            continue
        if node.op_type == "Scan" and have == 8:
            return f"node {node.name!r}: Scan lost its batch axis in opset 9, which no converter handles"
        if node.op_type == "GroupNormalization" and _PYTHON_FROM <= have < 21:
            shapes = [v.shape for v in node.inputs[:2] if v is not None]
            known = len(shapes) == 2 and all(s is not None for s in shapes)
            if not (known and isinstance(shapes[0][1], int) and isinstance(shapes[1][0], int)):  # type: ignore[index]
                return f"node {node.name!r} (GroupNormalization) needs a known number of channels"
    return ""


def _with_onnxscript(model: ir.Model, wanted: int) -> None:
    from onnxscript import version_converter

    logger = logging.getLogger("onnxscript.version_converter")
    refused = _Collect()
    logger.addHandler(refused)
    propagate, logger.propagate = logger.propagate, False
    try:
        version_converter.ConvertVersionPass(target_version=wanted, fallback=False)(model)
    finally:
        logger.removeHandler(refused)
        logger.propagate = propagate
    if refused.messages:
        raise ValueError(refused.messages[0])


class _Collect(logging.Handler):
    """onnxscript only logs that it skipped a node; the model would then be wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _with_cpp(model: ir.Model, wanted: int) -> None:
    """ONNX's converter on the skeleton, weights put back afterwards."""
    converted = ir.from_proto(isolated.convert(infer.skeleton(model), wanted))
    new, old = converted.graph, model.graph
    inputs = len(old.inputs)
    for value in list(new.inputs)[inputs:]:
        weight = old.initializers.get(str(value.name))
        if weight is None:
            raise ValueError(f"the converter made an input {value.name!r}")
        value.const_value = weight.const_value
        new.initializers.add(value)
    kept = list(new.inputs)[:inputs]
    new.inputs.clear()
    new.inputs.extend(kept)
    for one in new.initializers.values():
        tensor = one.const_value
        if tensor is not None:
            one.dtype, one.shape = tensor.dtype, ir.Shape(tensor.shape.numpy())
    new.name, new.doc_string = old.name, old.doc_string
    new.metadata_props.update(old.metadata_props)
    model.graph = new  # which holds the opset imports


def _raise_ir_version(model: ir.Model) -> None:
    """The IR version that this opset asks for, at least 4: initializers need not be inputs from there on."""
    opset = model.opset_imports.get("", 0)
    least = next((row[1] for row in onnx.helper.VERSION_TABLE if row[2] >= opset), onnx.IR_VERSION)
    model.ir_version = max(model.ir_version or 0, int(least), 4)
