"""What ONNX Runtime refuses, from the probed table `support.json`. The table says nothing about what it wasn't asked.

A node is a problem when the table has its operator at its opset version and every known type fits only rows that
the engine refused. An operator or a type that the table doesn't know is left to the real session.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgec_targets.probe.boxes import contains
from edgec_targets.probe.operators import bind
from edgec_targets.probe.table import Table, decode
from edgec_targets.types import Problem

if TYPE_CHECKING:
    import onnx_ir as ir

_STANDARD = ("", "ai.onnx")


@functools.cache
def table() -> Table:
    """The committed table, decoded."""
    return decode((files(__package__) / "support.json").read_text(encoding="utf-8"))


def problems(model: ir.Model) -> list[Problem]:
    """Every node of the model, its subgraphs and functions that the table shows to be refused."""
    found: list[Problem] = []
    for node, opsets in _nodes(model):
        if (node.domain, node.op_type) in {(f.domain, f.name) for f in model.functions.values()}:
            continue
        problem = judge(node, opsets.get(node.domain, opsets.get("", 0)))
        if problem is not None:
            found.append(problem)
    return found


def judge(node: ir.Node, opset: int) -> Problem | None:
    """The problem with one node in a model of the given opset (of the node's domain), or None."""
    domain = "" if node.domain in _STANDARD else node.domain
    key = f"{domain}::{node.op_type}" if domain else node.op_type
    versions: dict[str, Any] = table()["operators"].get(key, {})
    since = max((int(v) for v in versions if int(v) <= opset), default=None)
    if since is None:
        return None
    entry = versions[str(since)]
    types = _types(node, entry["vars"])
    row = [types.get(name) for name in entry["vars"]]
    if contains(entry["loads"], row) or not contains(entry["refused"], row):
        return None
    if None in row and "unclear" in entry:  # an unknown type fits everything, so also rows the table can't judge
        return None
    return _problem(node, key, since, entry, types, versions)


def _types(node: ir.Node, places: dict[str, str]) -> dict[str, str]:
    """The types of the node's type variables that are known, in the table's short words."""

    def word(value: ir.Value | None) -> str | None:
        import onnx_ir as ir

        if value is None or not isinstance(value.type, ir.TensorType):
            return None
        return str(value.type.dtype.name).lower().replace("_", "") if value.type.dtype else None

    inputs, outputs = [word(v) for v in node.inputs], [word(v) for v in node.outputs]
    found = {name: bind(where, inputs, outputs) for name, where in places.items()}
    return {name: value for name, value in found.items() if value is not None}


def _problem(
    node: ir.Node, key: str, since: int, entry: dict[str, Any], types: dict[str, str], versions: dict[str, Any]
) -> Problem:
    engine = f"onnxruntime {table()['version']}"
    name = node.name or f"(the {node.op_type} that makes {node.outputs[0].name})"
    operator = f"{key}-{since}"
    row = [types.get(variable) for variable in entry["vars"]]
    older = [int(v) for v, e in versions.items() if int(v) < since and _loads(e, row)]
    if not entry["loads"]:
        why = f"{engine} has no kernel for {operator} on the CPU, whatever the types."
    else:
        said = ", ".join(f"{variable} = {value}" for variable, value in types.items())
        why = f"{engine} has no kernel for {operator} with {said} on the CPU."
    if older:
        fix = f"Export or convert the model to an opset in which {node.op_type} is version {max(older)}."
    elif entry["loads"]:
        fix = f"Cast the node's inputs to types that it runs: {_words(entry)}."
    else:
        fix = f"Replace {node.op_type} by operators that the engine has, or leave it out of the model."
    return Problem(name, operator, why, fix)


def _loads(entry: dict[str, Any], row: list[str | None]) -> bool:
    return len(entry["vars"]) == len(row) and contains(entry["loads"], row)


def _words(entry: dict[str, Any]) -> str:
    box = max(entry["loads"], key=lambda b: sum(len(s) for s in b))
    return "; ".join(f"{variable}: {', '.join(sorted(s))}" for variable, s in zip(entry["vars"], box, strict=True))


def _nodes(model: ir.Model) -> Iterator[tuple[ir.Node, dict[str, int]]]:
    import onnx_ir as ir

    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        yield node, dict(model.graph.opset_imports)
    for function in model.functions.values():
        for node in ir.traversal.RecursiveGraphIterator(function):
            yield node, dict(function.opset_imports)
