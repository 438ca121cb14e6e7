"""Names: every node has one, every name once; weights are weights and not inputs."""

from __future__ import annotations

import collections

import onnx_ir as ir
from onnx_ir.passes import common


def lone_initializers(model: ir.Model) -> list[str]:
    """Take weights off the list of inputs, where IR versions below 4 had to have them.

    From IR 4 on an initializer that is also an input is a default that a caller could replace; edgec compiles
    the default in, and says so.
    """
    both = [v.name for v in model.graph.inputs if v.name in model.graph.initializers]
    replaceable = (model.ir_version or 0) >= 4
    model.ir_version = max(model.ir_version or 0, 4)
    if not both:
        return []
    common.RemoveInitializersFromInputsPass()(model)
    if replaceable:
        shown = ", ".join(str(n) for n in both[:3]) + (" …" if len(both) > 3 else "")
        return [f"{len(both)} input(s) with a default value became constants: {shown}"]
    return []


def complete(model: ir.Model) -> list[str]:
    """Name unnamed nodes `<operator>_<number>`, and number repeated names; values likewise."""
    taken = collections.Counter(node.name for node in model.graph.all_nodes() if node.name)
    unnamed = [node for node in model.graph.all_nodes() if not node.name]
    repeated = sum(n - 1 for n in taken.values())
    numbers: collections.Counter[str] = collections.Counter()
    for node in unnamed:
        name = f"{node.op_type}_{numbers[node.op_type]}"
        while name in taken:
            numbers[node.op_type] += 1
            name = f"{node.op_type}_{numbers[node.op_type]}"
        numbers[node.op_type] += 1
        node.name = name
        taken[name] += 1
    seen: set[str] = set()
    for node in model.graph.all_nodes():  # over all graphs: reports and assignments name nodes without their graph
        name, number = str(node.name), 1
        while name in seen or (number > 1 and name in taken):
            number += 1
            name = f"{node.name}_{number}"
        node.name = name
        seen.add(name)
    common.NameFixPass()(model)
    notes = []
    if unnamed:
        notes.append(f"{len(unnamed)} node(s) without a name got one")
    if repeated:
        notes.append(f"{repeated} repeated node name(s) got a number")
    return notes
