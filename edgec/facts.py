"""Facts into JSON: the manifest, the report and the versions of the tools, from what the stages made.

No clock and no randomness here: the same stages give the same bytes.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from edgec.passes import Applied

TOOLS = ("edgec", "edgec-runtime", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def tools() -> dict[str, str]:
    """Versions of everything that can change the bytes of a bundle."""
    return {"python": platform.python_version(), **{name: version(name) for name in TOOLS}}


def dtype(value: ir.Value) -> str:
    """The element type's name as the manifest writes it: numpy's ("float32"), "string", or ONNX's ("bfloat16")."""
    kind = value.dtype
    if kind is None:
        return "unknown"
    return "float32" if kind == ir.DataType.FLOAT else kind.name.lower() if kind not in _NAMES else _NAMES[kind]


_NAMES = {ir.DataType.DOUBLE: "float64"}


def ports(model: ir.Model) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs for the manifest: name, dtype, shape (int, or the symbolic name, or "?")."""

    def port(value: ir.Value) -> dict[str, Any]:
        shape: list[int | str] = []
        for n, dim in enumerate(value.shape or ()):
            shape.append(dim if isinstance(dim, int) else str(dim.value) if dim.value is not None else f"?{n}")
        return {"name": value.name, "dtype": dtype(value), "shape": shape, "layout": None}

    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    return [port(v) for v in given], [port(v) for v in model.graph.outputs]


def operators(model: ir.Model) -> dict[str, int]:
    """Node counts by operator."""
    from edgec.passes import counts

    return counts(model)


def passes(applied: Sequence[Applied]) -> list[dict[str, Any]]:
    """What each pass did, for the report."""
    return [
        {
            "name": p.name,
            "changed": p.changed,
            "nodes": [p.nodes_before, p.nodes_after],
            "fired": [{"rule": f.rule, "count": f.count, "nodes": list(f.nodes)} for f in p.fired],
            "refused": [{"rule": r.rule, "node": r.node, "why": r.why} for r in p.refused],
        }
        for p in applied
    ]


def drop_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the keys whose value is None."""
    return {k: v for k, v in values.items() if v is not None}
