"""Reading an onnx_ir graph: fixed shapes, constants, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.file import Dims
from edgec_targets.emitters.ncnn.registry import Refusal


def given(node: ir.Node, index: int) -> ir.Value | None:
    """An input, or None where the node leaves it out."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.name == "" else value


def need(node: ir.Node, index: int) -> ir.Value:
    """An input that must be there."""
    value = given(node, index)
    if value is None:
        raise Refusal(f"Its input {index} is missing.")
    return value


def shape(value: ir.Value) -> Dims:
    """The fixed shape. Raises Refusal where it isn't known, or empty."""
    if value.shape is None or any(not isinstance(d, int) for d in value.shape):
        raise Refusal(
            f"The shape of '{value.name}' is {value.shape or 'unknown'}: it depends on the data, or can't be inferred.",
            "Give the inputs fixed shapes (--shape).",
        )
    dims = tuple(int(d) for d in value.shape)  # type: ignore[arg-type]
    if 0 in dims:
        raise Refusal(f"'{value.name}' is empty: its shape is {list(dims)}.")
    return dims


def array(value: ir.Value | None) -> np.ndarray | None:
    """The content of a constant; None for anything computed, or left out."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def weights(node: ir.Node, index: int, what: str) -> np.ndarray:
    """A constant input in float32. Raises Refusal where it is computed or no float."""
    value = need(node, index)
    found = array(value)
    if found is None:
        raise Refusal(f"Its {what} ('{value.name}') are computed by the model; ncnn wants constants.")
    if found.dtype != np.float32:
        raise Refusal(f"Its {what} are {found.dtype}; only float32 is written.")
    return found


def optional_weights(node: ir.Node, index: int, what: str) -> np.ndarray | None:
    """`weights`, or None where the node leaves them out."""
    return None if given(node, index) is None else weights(node, index, what)


def numbers(node: ir.Node, index: int, what: str) -> list[int] | None:
    """A constant input of whole numbers; None where the node leaves it out."""
    value = given(node, index)
    if value is None:
        return None
    found = array(value)
    if found is None:
        raise Refusal(f"Its {what} ('{value.name}') are computed by the model; ncnn wants constants.")
    return [int(n) for n in found.ravel()]


def integer(node: ir.Node, name: str, default: int = 0) -> int:
    """An attribute that is a whole number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def real(node: ir.Node, name: str, default: float) -> float:
    """An attribute that is a real number."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()


def integers(node: ir.Node, name: str, default: Sequence[int]) -> list[int]:
    """An attribute that is a list of whole numbers."""
    attribute = node.attributes.get(name)
    return list(default) if attribute is None else [int(n) for n in attribute.as_ints()]


def text(node: ir.Node, name: str, default: str) -> str:
    """An attribute that is text."""
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def used(node: ir.Node, index: int) -> bool:
    """Whether a result of the node is read by anybody."""
    if index >= len(node.outputs):
        return False
    value = node.outputs[index]
    return bool(value.name) and (value.is_graph_output() or bool(value.uses()))
