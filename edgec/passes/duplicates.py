"""What is computed or stored twice is computed or stored once."""

from __future__ import annotations

import hashlib

import onnx_ir as ir
from onnx_ir.passes import common

from edgec.passes import library
from edgec.passes.report import Log
from edgec.passes.values import is_op

# Two of these with the same inputs still differ.
_RANDOM = (
    "RandomUniform",
    "RandomNormal",
    "RandomUniformLike",
    "RandomNormalLike",
    "Multinomial",
    "Bernoulli",
    "Dropout",
)
_FENCE = "edgec_fence"


def apply(model: ir.Model, log: Log) -> None:
    """Merges duplicates.

    1. Initializers of the same type, shape and bytes become one; inputs and outputs of the graph stay apart.
    2. Nodes of the main graph with the same operator, attributes and inputs become one (onnx-ir's pass).
    3. Random operators, and Dropout, stay: two draws are not one.
    4. Nodes that leave out an output stay: the other may need it.
    """
    _initializers(model, log)
    fenced = [
        node
        for node in model.graph
        if is_op(node, *_RANDOM) or any(not v.name for v in node.outputs) or node.op_identifier() in model.functions
    ]
    for number, node in enumerate(fenced):
        node.attributes.add(ir.AttrInt64(_FENCE, number))
    try:
        library.run(model, common.CommonSubexpressionEliminationPass(), log, "duplicate node")
    finally:
        for node in fenced:
            node.attributes.pop(_FENCE, None)


def _initializers(model: ir.Model, log: Log) -> None:
    """onnx-ir's passes keep all bytes of all weights in memory, or can't hash strings and small floats: this hashes."""
    first: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or value.is_graph_input() or value.is_graph_output() or value.name is None:
            continue
        if tensor.dtype.is_string():
            data = repr(list(tensor.string_data())).encode()  # type: ignore[attr-defined]
        else:
            data = tensor.tobytes()
        key = (tensor.dtype.name, tuple(tensor.shape.numpy()), hashlib.sha256(data).digest())
        kept = first.setdefault(key, value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            model.graph.initializers.pop(value.name)
            log.fire("duplicate initializer", value.name)
