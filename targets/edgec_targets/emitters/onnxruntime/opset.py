"""Which opset to write: engines lag behind ONNX, so the lowest that has every operator with the same meaning.

ONNX Runtime 1.32 has no QuantizeLinear at opset 28, nor RoiAlign at 22; the same nodes at 21 run. Most versions of an
operator only allow more types, so a node may be read by an older schema when that schema takes the node's attributes,
inputs, outputs and types, gives omitted attributes the same defaults, and the text has not changed its meaning.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import onnx
import onnx_ir as ir
from onnx import defs

OLDEST = 21
"""The oldest opset that edgec writes; a model that came older and could not be converted keeps its own."""

NEWEST_IR = 11
"""The newest IR version that edgec writes: what ONNX Runtime 1.22 and later read."""


def of(model: ir.Model) -> int:
    """The model's default opset; 0 when it imports none."""
    return int(model.opset_imports.get("", 0))


def candidates(model: ir.Model) -> list[int]:
    """Opsets at which the model means what it means at its own, ascending, `OLDEST` or later; its own is the last."""
    own = of(model)
    if model.functions:  # a function has imports of its own
        return [own]
    nodes = [node for node in model.graph.all_nodes() if node.domain == ""]
    lowest = own
    while lowest > OLDEST and all(not differs(node, own, lowest - 1) for node in nodes):
        lowest -= 1
    return list(range(lowest, own + 1))


def differs(node: ir.Node, new: int, old: int) -> str:
    """Why a node of opset `new` would not mean the same at opset `old` (a sentence), or "" when it would."""
    now, then = schema(node.op_type, new), schema(node.op_type, old)
    if now is None or then is None or then.deprecated:
        return f"{node.op_type} is not in opset {old}."
    if now.since_version == then.since_version:
        return ""
    for name, attribute in node.attributes.items():
        if name not in then.attributes and not _is_default(attribute, now):
            return f"The attribute {name} is not in {node.op_type}-{then.since_version}."
    for name, spec in then.attributes.items():
        if name in node.attributes or name not in now.attributes:
            continue
        if spec.default_value.SerializeToString() != now.attributes[name].default_value.SerializeToString():
            return f"{node.op_type}-{then.since_version} has another default for {name}."
    if _used(node.inputs) > then.max_input or _used(node.inputs) < then.min_input:
        return f"{node.op_type}-{then.since_version} doesn't take {_used(node.inputs)} inputs."
    if _used(node.outputs) > then.max_output:
        return f"{node.op_type}-{then.since_version} has no {_used(node.outputs)} outputs."
    for values, specs in ((node.inputs, then.inputs), (node.outputs, then.outputs)):
        for i, value in enumerate(values):
            if value is None or value.type is None or not specs:
                continue
            if type_words(value) not in specs[min(i, len(specs) - 1)].types:
                return f"{node.op_type}-{then.since_version} doesn't take {type_words(value)}."
    between = range(then.since_version + 1, now.since_version + 1)
    changed = (_CHANGED[node.op_type, version](node) for version in between if (node.op_type, version) in _CHANGED)
    return next((why for why in changed if why), "")


def lower(model: ir.Model, opset: int) -> ir.Model:
    """A copy of the model (weights shared) that says `opset`, one of `candidates(model)`; IR at most `NEWEST_IR`."""
    own = of(model)
    copy = model.clone()
    if opset != own:
        for node in copy.graph.all_nodes():
            node.version = None
            then = schema(node.op_type, opset) if node.domain == "" else None
            if then is not None:
                for name in [n for n in node.attributes if n not in then.attributes]:
                    del node.attributes[name]
        copy.opset_imports[""] = opset
    copy.ir_version = ir_version(opset) if opset else min(int(model.ir_version or NEWEST_IR), NEWEST_IR)
    return copy


def ir_version(opset: int) -> int:
    """The IR version that came with this opset (onnx.helper.VERSION_TABLE), at least 4 and at most `NEWEST_IR`."""
    first = next((int(row[1]) for row in onnx.helper.VERSION_TABLE if row[2] >= opset), NEWEST_IR)
    return max(4, min(first, NEWEST_IR))


@functools.cache
def schema(name: str, opset: int) -> defs.OpSchema | None:
    """The operator's schema of the default domain as of this opset; None when it has none."""
    try:
        return defs.get_schema(name, opset, "")
    except defs.SchemaError:
        return None


def _is_default(attribute: ir.Attr, now: defs.OpSchema) -> bool:
    if attribute.name not in now.attributes or attribute.is_ref():
        return False
    default = now.attributes[attribute.name].default_value
    return bool(default.type) and onnx.helper.get_attribute_value(default) == _plain(attribute)


def _plain(attribute: ir.Attr) -> object:
    value = attribute.value
    return value.encode() if isinstance(value, str) else value


def _used(values: Sequence[ir.Value | None]) -> int:
    """How many are given, without empty ones at the end."""
    given = [v is not None and v.name != "" for v in values]
    return max((i + 1 for i, there in enumerate(given) if there), default=0)


_SHORT = {"FLOAT": "float", "DOUBLE": "double", "BOOL": "bool", "STRING": "string"}


def type_words(value: ir.Value) -> str:
    """The value's type as schemas write it: `tensor(float)`, `seq(tensor(int64))`, `optional(...)`."""

    def words(kind: ir.TypeProtocol) -> str:
        if isinstance(kind, ir.SequenceType):
            return f"seq({words(kind.elem_type)})"
        if isinstance(kind, ir.OptionalType):
            return f"optional({words(kind.elem_type)})"
        name = str(kind.dtype.name)
        return f"{'sparse_' if isinstance(kind, ir.SparseTensorType) else ''}tensor({_SHORT.get(name, name.lower())})"

    return words(value.type) if value.type is not None else ""


def _attention_24(node: ir.Node) -> str:
    """Opset 24 aligns the causal mask with the last key; 23 with the first."""
    causal = node.attributes.get_int("is_causal", 0)
    return "Attention-23 aligns a causal mask otherwise." if causal else ""


def _pool_22(node: ir.Node) -> str:
    """Opset 22 ignores windows that start in the padding on the right."""
    ceil = node.attributes.get_int("ceil_mode", 0)
    return f"{node.op_type} before opset 22 rounds sizes up otherwise." if ceil else ""


def _mod_28(node: ir.Node) -> str:
    """Before opset 28, fmod = 0 was for integers only."""
    first = node.inputs[0]
    whole = first is not None and first.dtype is not None and first.dtype.is_integer()
    truncates = "fmod" in node.attributes and node.attributes["fmod"].as_int() != 0
    return "" if whole or truncates else "Mod-13 takes only integers with fmod = 0."


_CHANGED: dict[tuple[str, int], Callable[[ir.Node], str]] = {
    ("Attention", 24): _attention_24,
    ("AveragePool", 22): _pool_22,
    ("MaxPool", 22): _pool_22,
    ("Mod", 28): _mod_28,
}
"""Versions after `OLDEST` that changed a meaning, not only types or attributes: onnx's changelog up to opset 28."""
