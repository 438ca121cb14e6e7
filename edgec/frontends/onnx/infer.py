"""ONNX's C++ on a model without its weights: the checker and shape inference, errors turned into ours."""

from __future__ import annotations

import re

import onnx
import onnx_ir as ir

from edgec.errors import BadInputError
from edgec.frontends.onnx import isolated

KEEP_BYTES = 1024
"""Smaller initializers go along: their values (shapes, axes, pads) are what inference propagates."""


def check(model: ir.Model) -> None:
    """Run onnx.checker. Raises BadInputError naming the node.

    It asks for a type and a shape of every input and output, also those that inference finds and every engine does
    without: a stand-in is filled in for the check. Weights don't go along: `tensors.check` has seen them.
    """
    try:
        proto = skeleton(model)
        for info in (*proto.graph.input, *proto.graph.output):
            if info.type.WhichOneof("value") is None or info.type.HasField("tensor_type"):
                kind = info.type.tensor_type
                kind.elem_type = kind.elem_type or onnx.TensorProto.FLOAT
                kind.shape.SetInParent()
        isolated.check(proto)
    except Exception as error:
        raise bad("the model breaks ONNX's rules", error) from error


def infer(model: ir.Model) -> list[str]:
    """Infer types and shapes with data propagation, in place; what was known and is not contradicted stays.

    Raises:
        BadInputError: types that can't fit together.
    """
    try:
        inferred = isolated.infer(skeleton(model))
    except Exception as error:
        raise bad("the model's types or shapes don't fit together", error) from error
    found = ir.from_proto(inferred)
    for mine, theirs in zip(model.graphs(), found.graphs(), strict=False):
        new = ir.convenience.create_value_mapping(theirs)
        for name, value in ir.convenience.create_value_mapping(mine).items():
            other = new.get(name)
            if other is None or value.is_initializer():
                continue
            if value.type is None and other.type is not None:
                value.type = other.type
            if other.shape is not None and not value.is_graph_input():
                value.shape = _better(value.shape, other.shape)
    lost = sum(1 for node in model.graph for out in node.outputs if out.name and out.type is None)
    return [f"{lost} value(s) have no inferred type"] if lost else []


def correct_outputs(model: ir.Model) -> list[str]:
    """Give outputs the shapes that follow from the inputs where the file says something else, in place; notes say so.

    People free or fix the batch of a model by its inputs alone: the file may still say 1 of an output that is not, and
    engines pass over that. Numbers are believed, and names that inputs have; what inference can't tell stays.
    """
    proto = skeleton(model)
    made = {str(out.name): out for node in model.graph for out in node.outputs if out.is_graph_output()}
    for info in proto.graph.output:
        if info.name in made and info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    del proto.graph.value_info[:]
    try:
        inferred = isolated.infer(proto)
    except Exception:  # `infer`, which follows, has the words for it
        return []
    names = {d.value for v in model.graph.inputs if v.shape for d in v.shape if not isinstance(d, int) and d.value}
    found = {info.name: info for info in inferred.graph.output if info.type.tensor_type.HasField("shape")}
    notes = []
    for name, output in made.items():
        if name not in found or output.shape is None:
            continue
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in found[name].type.tensor_type.shape.dim]
        said = [d if isinstance(d, int) else d.value for d in output.shape]
        known = [d if isinstance(d, int) or d in names else None for d in dims]
        if len(said) != len(dims):
            output.shape = ir.Shape([d or None if isinstance(d, str) else d for d in dims])
        elif any(isinstance(a, int) and b is not None and a != b for a, b in zip(said, known, strict=True)):
            output.shape = ir.Shape([a if b is None else b for a, b in zip(said, known, strict=True)])
        else:
            continue
        notes.append(f"the file says {said} of the output {name!r}; from the inputs it is {_dims(output.shape)}")
    return notes


def _dims(shape: ir.Shape) -> list[int | str | None]:
    return [d if isinstance(d, int) else d.value for d in shape]


def forget_intermediate(model: ir.Model) -> None:
    """Drop the shapes of everything but inputs and weights, after inputs were given other shapes.

    Outputs keep their rank, and the numbers that don't depend on the inputs come back by inference.
    """
    for graph in model.graphs():
        for node in graph:
            for out in node.outputs:
                if not out.is_graph_output():
                    out.shape = None
                elif out.shape is not None:
                    out.shape = ir.Shape([None if not isinstance(d, int) else d for d in out.shape])


def skeleton(model: ir.Model) -> onnx.ModelProto:
    """The model as a proto, each weight over `KEEP_BYTES` an input of its type and shape instead.

    So that no C++ call copies weights, nor fails at protobuf's 2 GB.
    """
    graph = model.graph
    heavy = [v for v in graph.initializers.values() if v.const_value is not None and v.const_value.nbytes > KEEP_BYTES]
    for value in heavy:
        graph.initializers.pop(str(value.name))
    try:
        proto = ir.to_proto(model)
    finally:
        for value in heavy:
            graph.register_initializer(value)
    for value in heavy:
        proto.graph.input.append(ir.to_proto(value))
    return proto


def bad(what: str, error: BaseException) -> BadInputError:
    """One BadInputError out of an exception of onnx or onnx_ir: its first sentence, and the node if it names one."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "std::bad_alloc" in text:
        what, text = "the model asks for absurd sizes", "onnx's shape inference would need gigabytes of memory for it"
    node = re.search(r"(?:node name|Name|name): ?['\"]?([^'\"\s,()]+)", text)
    operator = re.search(r"(?:OpType|op_type|operator): ?['\"]?([A-Za-z0-9_]+)", text)
    where = ""
    if node and node.group(1) not in ("OpType:", "input", "output"):
        where = f", at node {node.group(1)!r}" + (f" ({operator.group(1)})" if operator else "")
    elif operator:
        where = f", at a node of {operator.group(1)}"
    return BadInputError(what + where, text[:500], "export the model again, or report this with the model", code="E908")


def _better(old: ir.Shape | None, new: ir.Shape) -> ir.Shape:
    """Dimension by dimension: a number, else the old symbol, else the new one."""
    if old is None or len(old) != len(new):
        return new
    dims: list[int | ir.SymbolicDim | str | None] = []
    for a, b in zip(old, new, strict=True):
        if isinstance(b, int):
            dims.append(b)
        elif isinstance(a, int) or a.value is not None:
            dims.append(a)
        else:
            dims.append(b)
    return ir.Shape(dims)
