"""The kernels that the installed ONNX Runtime registers: for what the probed table makes no statement about."""

from __future__ import annotations

import functools
from collections import defaultdict

import onnx_ir as ir

from edgec_targets.emitters.onnxruntime import opset

_Kernel = tuple[int, int, dict[str, frozenset[str]]]
"""First and last version, and for each type variable the types."""


def lacks(node: ir.Node, version: int) -> bool:
    """True when the CPU has kernels for the operator, but none for this version and the node's known types.

    An operator without any kernel is no such case: ONNX Runtime may build it from a function body.
    """
    registered = _registered().get((node.domain, node.op_type))
    schema = opset.schema(node.op_type, version) if node.domain == "" else None
    if not registered or schema is None:
        return False
    types: dict[str, str] = {}
    for values, specs in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for i, value in enumerate(values):
            if value is not None and value.type is not None and specs:
                types.setdefault(specs[min(i, len(specs) - 1)].type_str, opset.type_words(value))
    return not any(
        first <= schema.since_version <= last
        and all(types[variable] in allowed for variable, allowed in constraints.items() if variable in types)
        for first, last, constraints in registered
    )


@functools.cache
def _registered() -> dict[tuple[str, str], list[_Kernel]]:
    from onnxruntime.capi import onnxruntime_pybind11_state as engine

    found: dict[tuple[str, str], list[_Kernel]] = defaultdict(list)
    for kernel in engine.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            types = {name: frozenset(allowed) for name, allowed in kernel.type_constraints.items()}
            found[kernel.domain, kernel.op_name].append((*kernel.version_range, types))
    return found
