"""Harmless oddities of exporters, put right in the proto before it is checked; each leaves a note."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator

import onnx


def repair(proto: onnx.ModelProto) -> list[str]:
    """Put right what other tools tolerate. In place; returns what was done.

    1. the domain "ai.onnx" is written as "" (the same domain by the spec);
    2. negative dimensions of inputs, outputs and value_info become unknown ones;
    3. a missing import of a domain that nodes use is added at version 1 (com.microsoft only: the others' meaning
       depends on the version);
    4. Constant nodes with strings get a tensor instead (onnx_ir's lifting pass takes ASCII only there);
    5. value_info of values that the graph doesn't have any more is dropped by onnx_ir itself, without a note.
    """
    notes: list[str] = []
    for imported in proto.opset_import:
        if imported.domain == "ai.onnx":
            imported.domain = ""
    for function in proto.functions:
        for imported in function.opset_import:
            if imported.domain == "ai.onnx":
                imported.domain = ""
    used = set()
    for node in all_nodes(proto):
        if node.domain == "ai.onnx":
            node.domain = ""
        used.add(node.domain)
        if node.op_type == "Constant" and not node.domain:
            _strings_to_tensor(node)
    if "com.microsoft" in used and all(o.domain != "com.microsoft" for o in proto.opset_import):
        proto.opset_import.add(domain="com.microsoft", version=1)
        notes.append("added the missing import of the domain com.microsoft at version 1")
    negative = sum(_clear_negative(info) for graph in all_graphs(proto) for info in _infos(graph))
    if negative:
        notes.append(f"{negative} negative dimension(s) are taken as unknown")
    return notes


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info


def _clear_negative(info: onnx.ValueInfoProto) -> int:
    if not info.type.HasField("tensor_type"):
        return 0
    count = 0
    for dim in info.type.tensor_type.shape.dim:
        if dim.HasField("dim_value") and dim.dim_value < 0:
            dim.ClearField("dim_value")
            count += 1
    return count


def _strings_to_tensor(node: onnx.NodeProto) -> None:
    if len(node.attribute) != 1 or node.attribute[0].name not in ("value_string", "value_strings"):
        return
    old = node.attribute[0]
    tensor = onnx.TensorProto(data_type=onnx.TensorProto.STRING)
    if old.name == "value_string":
        tensor.string_data.append(old.s)
    else:
        tensor.string_data.extend(old.strings)
        tensor.dims.append(len(old.strings))
    node.ClearField("attribute")
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)


def all_graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph first, then all graphs inside nodes; protobuf's parser has bounded the nesting (100 levels)."""
    pending = collections.deque([proto.graph])
    for function in proto.functions:
        pending += _inside(function.node)
    while pending:
        graph = pending.popleft()
        yield graph
        pending += _inside(graph.node)


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of all graphs, main graph first, and of all functions."""
    for graph in all_graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _inside(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    found = []
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                found.append(attribute.g)
            found += attribute.graphs
    return found
