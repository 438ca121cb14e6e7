"""Reading constants, shapes and attributes off an `onnx_ir` graph, with the caution that every pass needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

# Types in which a weight may be rescaled. Half precision is left out on purpose: the product is rounded to 11 (or 8)
# bits once more, which moves the outputs by up to 2^-11 (2^-8) relative, more than a pass may.
FOLDABLE = (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def array(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The constant in `value`, or None where it is not one.

    An initializer that is also a graph input is no constant: the caller of the model may override it.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    return tensor.numpy()


def scalar(value: ir.Value | None) -> float | int | bool | None:
    """The only element of a one-element constant of rank 0 or more, or None."""
    constant = array(value)
    return constant.item() if constant is not None and constant.size == 1 else None


def integers(value: ir.Value | None) -> list[int] | None:
    """The elements of a 0-d or 1-d integer constant, or None."""
    constant = array(value)
    if constant is None or constant.ndim > 1 or constant.dtype.kind not in "iu":
        return None
    return [int(x) for x in constant.reshape(-1)]


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    """Input number `index`, or None where it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def flag(node: ir.Node, name: str, default: bool = False) -> bool:
    """An integer attribute that means yes or no."""
    number: int = node.attributes.get_int(name, int(default))
    return number != 0


def rank(value: ir.Value | None) -> int | None:
    """Number of dimensions, where it is known."""
    return None if value is None or value.shape is None else len(value.shape)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape, where every dimension is a known number."""
    if value is None or value.shape is None or not all(isinstance(d, int) for d in value.shape):
        return None
    return tuple(int(d) for d in value.shape)  # type: ignore[arg-type]


def dimension(dim: int | ir.SymbolicDim) -> int | str | None:
    """A dimension as a number or a name that means something. Paddle's exporter calls all it doesn't know "?"."""
    if isinstance(dim, int):
        return dim
    return dim.value if dim.value is not None and any(c.isalnum() for c in dim.value) else None


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether two values are known to have equal shapes, by number or by name."""
    if a is None or b is None or a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(dimension(x) is not None and dimension(x) == dimension(y) for x, y in zip(a.shape, b.shape, strict=True))


def opset(model: ir.Model) -> int:
    """Version of the default operator set."""
    return max(model.opset_imports.get("", 0), model.opset_imports.get("ai.onnx", 0))


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether `node` is one of these operators of the default domain."""
    return node is not None and node.domain in ("", "ai.onnx") and node.op_type in op_types


def tensor_like(data: np.ndarray[Any, Any], dtype: ir.DataType) -> ir.Tensor[Any]:
    """`data` rounded to `dtype`, as a tensor."""
    return ir.Tensor(np.asarray(data).astype(dtype.numpy()), dtype=dtype)
