"""The smallest model that holds one operator with given types; and the onnx package's own node cases, closed.

A variant's graph inputs have a type and no shape, so that the engine's answer is about types, not shapes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import onnx
from onnx import TensorProto, TypeProto, helper, numpy_helper

from edgec_targets.probe.operators import FIRST_OPSET, Operator, Parameter

_ELEMENTS = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    **{
        name.lower(): number
        for name, number in TensorProto.DataType.items()
        if name not in ("UNDEFINED", "FLOAT", "DOUBLE")
    },
}
_IR_VERSION = 11
_DEFAULTS: dict[str, Any] = {
    "INT": 1,
    "FLOAT": 1.0,
    "STRING": "",
    "INTS": [1],
    "FLOATS": [1.0],
    "STRINGS": ["a"],
}
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")  # they name the element type of the first output


def type_proto(text: str) -> TypeProto:
    """Parse ONNX's type words: "tensor(float)", "seq(map(int64,tensor(float)))", "optional(…)". No shape is set."""
    word, _, rest = text.replace(" ", "").partition("(")
    inner = rest[:-1]
    if word == "tensor":
        return helper.make_tensor_type_proto(_ELEMENTS[inner], None)
    if word == "sparse_tensor":
        return helper.make_sparse_tensor_type_proto(_ELEMENTS[inner], None)
    if word == "seq":
        return helper.make_sequence_type_proto(type_proto(inner))
    if word == "optional":
        return helper.make_optional_type_proto(type_proto(inner))
    if word == "map":
        key, _, value = inner.partition(",")
        return helper.make_map_type_proto(_ELEMENTS[key], type_proto(value if "(" in value else f"tensor({value})"))
    raise ValueError(f"not a type: {text}")


def rows(op: Operator) -> Iterator[tuple[str, ...]]:
    """All assignments of types to the operator's type variables, as full type words."""
    return itertools.product(*(op.constraints[name] for name in op.variables))


Attributes = Mapping[str, onnx.AttributeProto]


def models(op: Operator, row: tuple[str, ...], samples: Sequence[Attributes]) -> Iterator[bytes]:
    """Ways to hold `op` with types `row` in a model, the likeliest first.

    First the inputs and outputs that use every type variable, then all of them, then only those that can't be left
    out; each with the required attributes only and with those of each of `samples` (nodes of the onnx package's cases).
    """
    bound = dict(zip(op.variables, row, strict=True))
    shapes = [_covering(op), (op.inputs, op.outputs), (_needed(op.inputs), _needed(op.outputs) or op.outputs[:1])]
    seen: set[bytes] = set()
    for inputs, outputs in shapes:
        for n, sample in enumerate([*samples[:1], *samples] or [{}]):
            attributes = _attributes(op, bound, sample, every=n > 0)
            if attributes is None:
                continue
            blob = _model(op, bound, inputs, outputs, attributes)
            if blob not in seen:
                seen.add(blob)
                yield blob


def samples() -> tuple[dict[tuple[str, str], list[Attributes]], list[onnx.ModelProto]]:
    """Attributes of up to four real nodes of each operator, and the onnx package's node cases that can be closed.

    The nodes with the fewest attributes come first. The cases' random inputs are seeded (their generator uses numpy's
    and Python's global state).
    """
    import random
    import warnings

    import numpy as np
    from onnx.backend.test.case.node import collect_testcases

    random.seed(0)
    np.random.seed(0)
    attributes: dict[tuple[str, str], dict[bytes, Attributes]] = {}
    cases: list[onnx.ModelProto] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    for case in sorted(collected, key=lambda c: str(c.name)):
        model, data = case.model, case.data_sets
        if model is None or not data:
            continue
        for node in model.graph.node:
            found = {a.name: a for a in node.attribute}
            key = b"".join(a.SerializeToString() for a in node.attribute)
            attributes.setdefault((node.domain, node.op_type), {}).setdefault(key, found)
        if len(model.graph.node) == 1 and (whole := closed(model, data[0][0])) is not None:
            cases.append(whole)
    return {op: sorted(found.values(), key=len)[:4] for op, found in attributes.items()}, cases


def closed(model: onnx.ModelProto, inputs: Sequence[Any]) -> onnx.ModelProto | None:
    """The same model with its inputs as initializers, so that it runs with no feeds; None for non-tensor inputs."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.input[:]
    for info, value in zip(model.graph.input, inputs, strict=True):
        if not info.type.HasField("tensor_type"):
            return None
        if not isinstance(value, TensorProto):
            value = numpy_helper.from_array(value, info.name)
        tensor = result.graph.initializer.add()
        tensor.CopyFrom(value)
        tensor.name = info.name
    result.ir_version = min(result.ir_version, _IR_VERSION)
    return result


def types_of(model: onnx.ModelProto) -> tuple[list[str | None], list[str | None]]:
    """The types of the inputs and outputs of a closed model's only node: full words for tensors, None for the rest."""
    words = {number: f"tensor({name})" for name, number in _ELEMENTS.items()}
    known = {t.name: words.get(t.data_type) for t in model.graph.initializer}
    known.update({o.name: words.get(o.type.tensor_type.elem_type) for o in model.graph.output})
    node = model.graph.node[0]
    return [known.get(name) for name in node.input], [known.get(name) for name in node.output]


def _needed(parameters: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    return tuple(p for p in parameters if not p.optional)


def _covering(op: Operator) -> tuple[tuple[Parameter, ...], tuple[Parameter, ...]]:
    """The shortest prefixes of inputs and outputs that use every type variable and hold all that is required."""

    def last(parameters: tuple[Parameter, ...], covered: set[str]) -> int:
        end = max((n + 1 for n, p in enumerate(parameters) if not p.optional), default=0)
        covered |= {p.type for p in parameters[:end]}
        for n, p in enumerate(parameters):
            if p.type in op.constraints and p.type not in covered:
                end = max(end, n + 1)
                covered.add(p.type)
        return end

    covered: set[str] = set()
    # Outputs' own required variables first: an output can name a type that an optional input would else be added for.
    covered |= {p.type for p in op.outputs if not p.optional}
    inputs = op.inputs[: last(op.inputs, covered)]
    outputs = op.outputs[: max(1, last(op.outputs, covered))]
    return inputs, outputs


def _attributes(
    op: Operator, bound: Mapping[str, str], sample: Attributes, *, every: bool
) -> list[onnx.AttributeProto] | None:
    """The node's attributes; None when a required one (a subgraph) can't be made up."""
    result: dict[str, onnx.AttributeProto] = {}
    if every:
        result.update({name: a for name, a in sample.items() if name in op.attributes})
    for name, kind in op.required.items():
        if name in result:
            continue
        if name in sample:
            result[name] = sample[name]
        elif kind in _DEFAULTS:
            result[name] = helper.make_attribute(name, _DEFAULTS[kind])
        elif kind == "TENSOR":
            result[name] = helper.make_attribute(name, helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]))
        else:
            return None
    element = _first_output_element(op, bound)
    if element is not None:
        for name in _TYPE_ATTRIBUTES:
            if name in op.attributes:
                result[name] = helper.make_attribute(name, element)
        if "value" in op.attributes and op.name == "ConstantOfShape":
            result["value"] = helper.make_attribute(
                "value", TensorProto(dims=[1], data_type=element, raw_data=bytes(16)[: _width(element)])
            )
    if any(a.type == onnx.AttributeProto.GRAPH for a in result.values()):
        return None
    return [result[name] for name in sorted(result)]


def _first_output_element(op: Operator, bound: Mapping[str, str]) -> int | None:
    """The first output's element type, when its type variable isn't settled by an input."""
    variable = op.outputs[0].type if op.outputs else ""
    if variable not in bound or any(p.type == variable for p in _needed(op.inputs)):
        return None
    match = re.fullmatch(r"tensor\((\w+)\)", bound[variable])
    return _ELEMENTS[match[1]] if match else None


def _width(element: int) -> int:
    """Bytes of one stored element (sub-byte types take one byte; strings can't be raw and are refused anyway)."""
    try:
        return max(1, helper.tensor_dtype_to_np_dtype(element).itemsize)
    except (KeyError, ValueError):
        return 1


def _model(
    op: Operator,
    bound: Mapping[str, str],
    inputs: tuple[Parameter, ...],
    outputs: tuple[Parameter, ...],
    attributes: list[onnx.AttributeProto],
) -> bytes:
    def infos(prefix: str, parameters: tuple[Parameter, ...]) -> list[onnx.ValueInfoProto]:
        types = [type_proto(bound.get(p.type, p.type)) for p in parameters]
        return [onnx.ValueInfoProto(name=f"{prefix}{n}", type=t) for n, t in enumerate(types)]

    ins, outs = infos("i", inputs), infos("o", outputs)
    node = helper.make_node(op.name, [i.name for i in ins], [o.name for o in outs], name="probed", domain=op.domain)
    node.attribute.extend(attributes)
    graph = helper.make_graph([node], "probe", ins, outs)
    opsets = [helper.make_opsetid(op.domain, max(op.since, FIRST_OPSET) if not op.domain else op.since)]
    if op.domain:
        opsets.append(helper.make_opsetid("", 21))
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())
