"""Reading an onnx_ir graph: shapes, constants, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.registry import Refusal


def shape(value: ir.Value | None) -> tuple[int, ...]:
    """The fixed shape. Raises Refusal where it isn't known."""
    if value is None or value.shape is None or any(not isinstance(d, int) for d in value.shape):
        name = "an input" if value is None else f"'{value.name}'"
        known = "unknown" if value is None or value.shape is None else str(value.shape)
        raise Refusal(
            f"The shape of {name} is {known}: it depends on the data, or could not be inferred.",
            "Give the inputs fixed shapes (--shape), or fold what computes it.",
        )
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def rank(value: ir.Value | None) -> int:
    """How many axes a value of known shape has."""
    return len(shape(value))


def array(value: ir.Value | None) -> np.ndarray | None:
    """The content of a constant; None for anything computed, or left out."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def stored(value: ir.Value | None) -> ir.Value | None:
    """The constant that a value is: itself, or what a DequantizeLinear makes it of. None for what is computed."""
    if value is None or array(value) is not None:
        return value
    producer = value.producer()
    if (
        producer is None
        or producer.domain not in ("", "ai.onnx")
        or producer.op_type != "DequantizeLinear"
        or array(producer.inputs[0]) is None
    ):
        return None
    return producer.inputs[0]


def constant(node: ir.Node, index: int, what: str) -> np.ndarray | None:
    """An input that must be a constant; None where the node leaves it out. Raises Refusal where it is computed."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return None
    found = array(value)
    if found is None:
        raise Refusal(f"Its {what} ('{value.name}') is computed by the model; TFLite wants a constant.")
    return found


def integers(node: ir.Node, name: str, index: int | None = None) -> list[int] | None:
    """A list of integers: attribute `name`, or the constant input `index` that newer opsets have instead."""
    attribute = node.attributes.get(name)
    if attribute is not None:
        if attribute.type == ir.AttributeType.INT:
            return [int(attribute.as_int())]
        return [int(i) for i in attribute.as_ints()]
    if index is None:
        return None
    found = constant(node, index, name)
    return None if found is None else [int(i) for i in np.atleast_1d(found)]


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def number(node: ir.Node, name: str, default: float) -> float:
    """A float attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.as_float())


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    attribute = node.attributes.get(name)
    return default if attribute is None else str(attribute.as_string())


def given(node: ir.Node, index: int) -> ir.Value | None:
    """Input `index`; None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def used(node: ir.Node, index: int) -> bool:
    """Whether anybody reads result `index`."""
    if index >= len(node.outputs):
        return False
    value = node.outputs[index]
    return bool(value.uses()) or value.is_graph_output()


def axis(node: ir.Node, default: int, of: int) -> int:
    """The attribute `axis`, counted from the front."""
    found = integer(node, "axis", default)
    return found + of if found < 0 else found


def positive(axes: Sequence[int], of: int) -> list[int]:
    """Axes counted from the front."""
    return [a + of if a < 0 else a for a in axes]
