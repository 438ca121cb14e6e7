"""The order of the steps from an ONNX model to ncnn's files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from edgec_targets.emitters.ncnn import interface
from edgec_targets.emitters.ncnn.context import Blob, Context, held
from edgec_targets.emitters.ncnn.file import Dims, File, Layer
from edgec_targets.emitters.ncnn.fusion import fuse
from edgec_targets.emitters.ncnn.prepare import prepare
from edgec_targets.emitters.ncnn.registry import Refusal, find
from edgec_targets.emitters.ncnn.values import array, shape
from edgec_targets.types import Problem

_WINOGRAD = 4
_FIX = "Leave this node out of the model, or use another engine's payload."


@dataclass(frozen=True)
class Written:
    """A model in ncnn's form; nothing in it where something could not be written."""

    problems: list[Problem]
    param: bytes = b""
    bin: bytes = b""
    interface: bytes = b""
    layers: Mapping[str, int] = field(default_factory=dict)
    """How often each of ncnn's layers is in the file."""
    transformed: int = 0
    """Bytes of 3 × 3 kernels as Winograd's F(4, 3) keeps them: 36 numbers for nine."""


def convert(model: ir.Model) -> Written:
    """Write `model` (float32, its weights maybe stored in half precision) for ncnn.

    Deterministic. Problems list every node that can't be written, with the reason. Nothing is proven here: `prove`.
    """
    prepared, problems = prepare(model)
    if problems:
        return Written(problems)
    file = File()
    context = Context(file)
    lost: set[ir.Value] = set()
    inputs = []
    for value in prepared.graph.inputs:
        try:
            inputs.append(_input(context, value))
        except Refusal as e:
            problems.append(Problem(f"input '{value.name}'", "", e.why, e.fix))
            lost.add(value)
    for node in prepared.graph:
        if problem := _node(context, node, lost):
            problems.append(problem)
    if problems:
        return Written(problems)
    try:
        results = [_output(context, value) for value in prepared.graph.outputs]
    except Refusal as e:
        return Written([Problem("an output", "", e.why, e.fix)])
    names = [blob.name for blob in results]
    file.drop_unused(names)
    fuse(file, names)
    file.drop_unused(names)
    param, data, names = file.finish(names)
    outputs = [
        interface.Port(str(value.name), shape(value), name, blob.dims)
        for value, blob, name in zip(prepared.graph.outputs, results, names, strict=True)
    ]
    written = interface.write(inputs, outputs, len(data))
    transformed = sum(_WINOGRAD * layer.weights[0].values.nbytes for layer in file.layers if _is_winograd(layer))
    return Written([], param, data, written, Counter(layer.kind for layer in file.layers), transformed)


def _is_winograd(layer: Layer) -> bool:
    """A dense 3 × 3 convolution in steps of one."""
    return layer.kind == "Convolution" and [layer.params[key] for key in (1, 11, 2, 12, 3, 13)] == [3, 3, 1, 1, 1, 1]


def _node(context: Context, node: ir.Node, lost: set[ir.Value]) -> Problem | None:
    """Write one node. What comes after a node that can't be written isn't blamed for it."""
    if all(value.const_value is not None for value in node.outputs):
        return None
    name = node.name or str(node.outputs[0].name)
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    write = find(node)
    if write is None:
        lost.update(node.outputs)
        return Problem(name, operator, "ncnn has no such operator, or edgec no way to write it.", _FIX)
    if any(value in lost for value in node.inputs):
        lost.update(node.outputs)
        return None
    try:
        wrong = next((v for v in node.outputs if v.name and v.dtype not in (ir.DataType.FLOAT, None)), None)
        if wrong is not None:
            raise Refusal(f"Its result '{wrong.name}' is {wrong.dtype}; ncnn computes with float32.")
        write(context, node)
    except Refusal as e:
        lost.update(node.outputs)
        return Problem(name, operator, e.why, e.fix)
    except (ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError) as e:
        # A node that contradicts its own shapes, or a mistake of ours: the other payloads still ship.
        lost.update(node.outputs)
        return Problem(name, operator, f"Writing it failed: {type(e).__name__}: {e}", _FIX)
    return None


def _input(context: Context, value: ir.Value) -> interface.Port:
    """An input in a form without gaps; seen as `held` wants it where that has some."""
    dims = held(shape(value))
    flat: Dims = dims if interface.plain(dims) else (math.prod(dims),)
    keys = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(flat)]
    name = context.file.layer("Input", [], [flat], dict(zip(keys, flat, strict=True)))[0]
    context.put(value, Blob(name, flat))
    return interface.Port(str(value.name), shape(value), name, flat)


def _output(context: Context, value: ir.Value) -> Blob:
    """An output without gaps; one that is an input or a constant is copied, since nobody makes it."""
    if array(value) is None and value.dtype != ir.DataType.FLOAT:
        raise Refusal(f"Output '{value.name}' is {value.dtype}; ncnn computes with float32.")
    blob = context.get(value)
    if not interface.plain(blob.dims):
        blob = context.reshape(blob, (math.prod(blob.dims),))
    if value.is_graph_input():
        blob = context.op("Noop", [blob], blob.dims)
    return blob
