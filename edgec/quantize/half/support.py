"""Which operators may run in a 16-bit float: by ONNX's own type constraints, and by what an engine has kernels for."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx import defs

from edgec.errors import UsageError
from edgec.quantize import layers
from edgec.quantize.half.kinds import Kind

ENGINES = ("onnxruntime",)
"""Engines whose kernels can be asked."""

ABOUT_FORM = frozenset({"Shape", "Size"})
"""Operators that read a value's form, whatever its type."""


@dataclass(frozen=True)
class Roles:
    """What changes its type when a node runs in a 16-bit float.

    Attributes:
        inputs: indices of its float32 inputs that become 16-bit; others, like the scales of Resize, stay float32.
        attribute: the attribute that names the result's type (Cast) or holds its value (ConstantOfShape), else "".
    """

    inputs: tuple[int, ...]
    attribute: str = ""


def complete_types(graph: ir.Graph, opset: int) -> None:
    """Give results whose type the model doesn't say the type of the inputs that ONNX says they share. In place."""
    for node in graph:
        schema = _schema(node, opset) if any(v.type is None for v in node.outputs) else None
        if schema is None:
            continue
        known: dict[str, ir.TypeProtocol] = {}
        for i, value in enumerate(node.inputs):
            if value is not None and value.type is not None:
                known.setdefault(schema.inputs[min(i, len(schema.inputs) - 1)].type_str, value.type)
        for i, value in enumerate(node.outputs):
            found = known.get(schema.outputs[min(i, len(schema.outputs) - 1)].type_str)
            if value.type is None and isinstance(found, ir.TensorType):
                value.type = ir.TensorType(found.dtype)


def roles(node: ir.Node, opset: int, kind: Kind) -> Roles | str:
    """The roles of a node's inputs, or why it can't run in this type (a sentence).

    Args:
        node: one that has float32 results.
        opset: the model's, of the default domain.
        kind: the type.
    """
    schema = _schema(node, opset)
    if schema is None:
        return f"{node.op_type} is not of the standard operator set"
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    word = f"tensor({kind.name})"
    converted: set[str] = set()
    indices = []
    for i, value in enumerate(node.inputs):
        if value is None:
            continue
        if not isinstance(value.type, ir.TensorType):
            return "the type of an input is not known, or no tensor's"
        variable = schema.inputs[min(i, len(schema.inputs) - 1)].type_str
        if value.dtype == ir.DataType.FLOAT and variable in allowed:
            if word not in allowed[variable]:
                return f"{node.op_type}-{schema.since_version} does not take {kind.name}"
            converted.add(variable)
            indices.append(i)
    attribute = {"Cast": "to", "ConstantOfShape": "value"}.get(node.op_type, "")
    for i, value in enumerate(node.outputs):
        variable = schema.outputs[min(i, len(schema.outputs) - 1)].type_str
        if not isinstance(value.type, ir.TensorType):
            if value.uses() or value.is_graph_output():
                return "the type of a result is not known, or no tensor's"
            continue
        follows = variable in converted or (bool(attribute) and word in allowed.get(variable, ()))
        if value.dtype == ir.DataType.FLOAT and not follows:
            return "its result's type does not follow its inputs'"
    return Roles(() if attribute else tuple(indices), attribute)


def lacks(node: ir.Node, found: Roles, opset: int, kind: Kind, engine: str) -> str:
    """Why an engine can't run a node in this type (a sentence), or "" where it can.

    Args:
        node: the node, in float32.
        found: its roles.
        opset: the model's.
        kind: the type.
        engine: one of `ENGINES`; the installed version on this machine is asked.

    Raises:
        UsageError: an engine that can't be asked.
    """
    if engine not in ENGINES:
        raise UsageError(f"the kernels of engine '{engine}' are not known", "", f"use one of {', '.join(ENGINES)}")
    from edgec_targets.emitters.onnxruntime import kernels, support

    values = [node.inputs[i] for i in found.inputs] + [v for v in node.outputs if v.dtype == ir.DataType.FLOAT]
    before = {v: v.type for v in values if v is not None}
    try:
        for value in before:
            value.type = ir.TensorType(kind.onnx)  # a new type: clones share the old one
        missing = support.judge(node, opset) is not None or kernels.lacks(node, opset)
    finally:
        for value, old in before.items():
            value.type = old
    return f"{engine} has no {kind.name} kernel of {node.op_type} here" if missing else ""


def _schema(node: ir.Node, opset: int) -> defs.OpSchema | None:
    if not layers.is_onnx(node):
        return None
    try:
        return defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return None
