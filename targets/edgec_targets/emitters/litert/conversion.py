"""The order of the steps from an ONNX model to a TFLite file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from edgec_targets.emitters.litert import arena, dynamic, fusion, layout, ranks, stems, units
from edgec_targets.emitters.litert.constants import evaluate
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import File, Quantization, Tensor
from edgec_targets.emitters.litert.prepare import prepare
from edgec_targets.emitters.litert.registry import Refusal, find, identity
from edgec_targets.emitters.litert.values import array, rank, shape
from edgec_targets.types import Problem


@dataclass(frozen=True)
class Written:
    """A TFLite file and what is in it; no bytes where something could not be written."""

    data: bytes | None
    problems: list[Problem]
    operators: Mapping[str, int] = field(default_factory=dict)
    """How often each TFLite operator is in the file."""
    notes: tuple[str, ...] = ()
    """Where answers may differ from ONNX Runtime's by more than float32's rounding: node and reason."""
    memory: int = 0
    """Bytes that it takes when it is loaded and run, see `arena`."""

    @property
    def transposes(self) -> int:
        """Transpositions that the layouts left over."""
        return self.operators.get("TRANSPOSE", 0)

    def told(self) -> tuple[str, ...]:
        """For a report: how many operators, how many of them transpositions, and the notes by reason."""
        many, moved = sum(self.operators.values()), self.transposes
        words = f"{many} operators, {moved or 'none'} of them {'a transposition' if moved == 1 else 'transpositions'}"
        reasons: dict[str, list[str]] = {}
        for note in self.notes:
            node, _, why = note.partition(": ")
            reasons.setdefault(why, []).append(node)
        each = (f"{why} ({_where(nodes)})" for why, nodes in reasons.items())
        return (words, *each)


def _where(nodes: list[str]) -> str:
    return f"node {nodes[0]}" if len(nodes) == 1 else f"{len(nodes)} nodes, the first {nodes[0]}"


def convert(model: ir.Model, *, half: bool = False, exact: bool = False, dot: bool = True) -> Written:
    """Write `model` (float, or with Q/DQ) as a TFLite file; `half` stores float weights as float16.
    `exact` keeps integers equal to ONNX Runtime's even where that takes longer (`exact.in_integers`).
    `dot`: the CPU has 8-bit dot products, so that its kernels take four channels at a time (`stems`).

    Deterministic. Problems list every node that can't be written, with the reason.
    """
    prepared, problems = prepare(model)
    if problems:
        return Written(None, problems)
    ranks.align(prepared)
    fusion.fuse(prepared)
    quantities = units.fold(prepared)
    stems.mark(prepared.graph, {value for value, found in quantities.items() if found.bits == 8}, dot=dot)
    file = File()
    layouts, in_integers = layout.choose(prepared.graph), dynamic.pays(prepared.graph)
    context = Context(file, layouts, quantities, half=half, dynamic=in_integers, exact=exact)
    inputs = []
    lost: set[ir.Value] = set()
    for value in prepared.graph.inputs:
        try:
            inputs.append((str(value.name), _input(context, value)))
        except Refusal as e:
            problems.append(Problem(f"input '{value.name}'", "", e.why, e.fix))
            lost.add(value)
    version = prepared.opset_imports.get("", 21)
    for node in prepared.graph:
        if problem := _node(context, node, version, lost):
            problems.append(problem)
    if problems:
        return Written(None, problems)
    try:
        outputs = _outputs(context, prepared.graph, {t.index for _, t in inputs})
    except Refusal as e:
        return Written(None, [Problem("an output", "", e.why, e.fix)])
    ends = [t for _, t in outputs]
    data = file.finish(inputs, outputs)
    memory = arena.estimate(file, len(data), [t for _, t in inputs], ends)
    return Written(data, [], file.counts(ends), tuple(context.notes), memory)


def _node(context: Context, node: ir.Node, version: int, lost: set[ir.Value]) -> Problem | None:
    """Write one node. What comes after a node that can't be written isn't blamed for it."""
    name = node.name or str(node.outputs[0].name)
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    if (results := evaluate(node, version)) is not None:
        for value, data in zip(node.outputs, results, strict=True):
            value.const_value = ir.Tensor(data, name=value.name)
        return None
    known = find(node)
    if known is None:
        lost.update(node.outputs)
        return Problem(name, operator, "TFLite has no such operator, or edgec no way to write it.", _FIX)
    if any(v in lost for v in node.inputs):
        lost.update(node.outputs)
        return None
    try:
        known.emit(context, node)
    except Refusal as e:
        lost.update(node.outputs)
        return Problem(name, operator, e.why, e.fix)
    except (ValueError, TypeError, IndexError, KeyError, AssertionError) as e:
        # A node that contradicts its own shapes, or a mistake of ours: the other payloads still ship.
        lost.update(node.outputs)
        return Problem(name, operator, f"Writing it failed: {type(e).__name__}: {e}", _FIX)
    return None


def _input(context: Context, value: ir.Value) -> Tensor:
    """A graph input in ONNX's layout and with its own type; half precision is widened behind it."""
    dims = [int(d) for d in value.shape] if value.shape is not None else []  # type: ignore[arg-type]
    if value.dtype == ir.DataType.FLOAT16:
        tensor = context.file.tensor(dims, "float16")
        wide = context.op("CAST", [tensor], dims, "CastOptions", dtype="float32")
        context.put(value, identity(len(dims)), wide)
        return tensor
    quantization = context.quantities.get(value)
    if quantization is not None and value.dtype == ir.DataType.UINT8:
        # Integers are signed inside. Unsigned ones at the border keep their type.
        unsigned = Quantization(quantization.scale, tuple(z + 128 for z in quantization.zero_point))
        tensor = context.file.tensor(dims, "uint8", unsigned)
        signed = context.op("QUANTIZE", [tensor], dims, "QuantizeOptions", dtype="int8", quantization=quantization)
        context.put(value, identity(len(dims)), signed)
        return tensor
    tensor = context.file.tensor(dims, context.dtype(value), quantization)
    context.put(value, identity(len(dims)), tensor)
    return tensor


def _outputs(context: Context, graph: ir.Graph, taken: set[int]) -> list[tuple[str, Tensor]]:
    """The outputs in ONNX's layout, each with a tensor of its own."""
    outputs = []
    for value in graph.outputs:
        if 0 in shape(value):
            raise Refusal(f"Output '{value.name}' has no elements.", "Leave it out of the model.")
        tensor = context.get(value, identity(rank(value)))
        if value.dtype == ir.DataType.FLOAT16:
            tensor = context.op("CAST", [tensor], tensor.shape, "CastOptions", dtype="float16")
        quantization = tensor.quantization
        if quantization is not None and value.dtype == ir.DataType.UINT8:
            unsigned = Quantization(quantization.scale, tuple(z + 128 for z in quantization.zero_point))
            kind: dict[str, Any] = {"dtype": "uint8", "quantization": unsigned}
            tensor = context.op("QUANTIZE", [tensor], tensor.shape, "QuantizeOptions", **kind)
        if tensor.index in taken or array(value) is not None:
            # An output that is an input, a constant or another output needs a copy to be named.
            copy = context.file.tensor(tensor.shape, tensor.dtype, tensor.quantization)
            tensor = context.reshape(tensor, tensor.shape, copy)
        taken.add(tensor.index)
        outputs.append((str(value.name), tensor))
    return outputs


_FIX = "Leave this node out of the model, or use the onnxruntime payload."
