"""Where the factor of a channel can go: backwards through a float graph into the constants that make a value.

`absorb(value, factor)` multiplies a value by positive factors, one a channel, without adding a node: it walks from the
value to what makes it until constants take the factors up.

1. LayerNormalization, RMSNormalization: scale and bias.
2. MatMul, Gemm with a constant weight: its columns, and Gemm's bias.
3. Mul, Div, Add, Sub with a constant: the constant; for Add and Sub the other operand too.
4. Mul of two values (gated units): one of them. Add, Sub of two values: both.
5. MatMul of two values (attention): the second, where the factors don't differ along its rows.
6. Relu, LeakyRelu, Identity, Reshape, Transpose: what they read, since a positive factor moves through.

Refused: anything else (GELU, softmax …), values with other readers, graph outputs, constants that differ in type.
Folding factors into neighbours: Meller et al. 2019 (arXiv:1902.01917), Xiao et al. 2022 (arXiv:2211.10438).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.weights.edit import Editor

# How many nodes a walk may pass.
DEPTH = 12
_NORMALIZATIONS = frozenset({"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"})


@dataclass(frozen=True)
class Edit:
    """One constant operand to be replaced.

    Attributes:
        node: the node that reads it.
        index: of the operand.
        array: what it becomes.
    """

    node: ir.Node
    index: int
    array: np.ndarray


# A constant to be replaced, or a value that is another now and should not go by the name it had.
Change = Edit | ir.Value


def absorb(value: ir.Value, factor: np.ndarray, readers: int) -> list[Change] | None:
    """The changes after which the value is `factor` times what it was; None where its producers can't take it.

    Args:
        value: of known rank.
        factor: float64 (channels of the last axis,), positive.
        readers: how many uses of the value expect the product; were there more, they would see it too.
    """
    rank = value.shape.rank() if value.shape is not None else None
    if rank is None or rank == 0:
        return None
    return _into(value, factor.reshape([1] * (rank - 1) + [-1]), readers, DEPTH)


def apply(editor: Editor, changes: list[Change]) -> None:
    """Make the changes: each node gets a constant of its own; what nothing reads any more goes.

    Values that differ now get other names, so that nobody compares them with the float model's; nodes that went by the
    name of their result keep it as their own.
    """
    for edit in changes:
        if isinstance(edit, ir.Value):
            producer = edit.producer()
            assert producer is not None
            same = sum(node.name == producer.name for node in editor.graph)
            if not producer.name or same > 1:
                producer.name = edit.name
            edit.name = editor.free(f"{edit.name}_smooth")
            continue
        old = edit.node.inputs[edit.index]
        assert old is not None
        edit.node.replace_input_with(edit.index, editor.constant(f"{old.name}_smooth", edit.array))
        editor.drop(old)


def _into(value: ir.Value, factor: np.ndarray, readers: int, depth: int) -> list[Change] | None:
    node = value.producer()
    if node is None or depth == 0 or value.is_graph_output() or len(value.uses()) != readers:
        return None
    if any(o.uses() or o.is_graph_output() for o in node.outputs if o is not value) or node.graph is None:
        return None
    made: list[Change] | None = None
    if node.op_type in _NORMALIZATIONS:
        made = _normalization(node, factor)
    elif layers.is_onnx(node) and node.op_type in _RULES:
        made = _RULES[node.op_type](node, factor, depth - 1)
    return None if made is None else [*made, value]


def _normalization(node: ir.Node, factor: np.ndarray) -> list[Change] | None:
    axis = node.attributes.get("axis")
    rank = factor.ndim
    if axis is not None and axis.as_int() not in (-1, rank - 1):
        return None
    if factor.shape[-1] != factor.size:
        return None
    edits: list[Change] = []
    for i in range(1, len(node.inputs)):
        constant = _constant(node.inputs[i])
        if node.inputs[i] is None:
            continue
        if constant is None or constant.shape != (factor.size,):
            return None
        edits.append(_edit(node, i, constant * factor.reshape(-1)))
    return edits or None


def _matmul(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    weight = _constant(node.inputs[1])
    if weight is not None:
        # A constant used elsewhere would be in the file twice.
        if weight.ndim != 2 or factor.size != factor.shape[-1] or len(_uses(node, 1)) != 1:
            return None
        return [_edit(node, 1, weight * factor.reshape(-1))]
    second = node.inputs[1]
    rank = _rank(second)
    if second is None or factor.ndim < 2 or factor.shape[-2] != 1 or rank != factor.ndim:
        return None
    return _into(second, factor, 1, depth)


def _gemm(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    weight = _constant(node.inputs[1])
    if weight is None or len(_uses(node, 1)) != 1:
        return None
    vector = factor.reshape(-1)
    transposed = node.attributes.get("transB")
    rows = transposed is not None and transposed.as_int() != 0
    edits: list[Change] = [_edit(node, 1, weight * (vector[:, None] if rows else vector))]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _constant(node.inputs[2])
        if bias is None:
            return None
        edits.append(_edit(node, 2, bias * vector))
    return edits


def _product(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    for i, value in enumerate(node.inputs):
        constant = _constant(value)
        if constant is None:
            continue
        if node.op_type == "Mul":
            return [_edit(node, i, constant * factor)]
        return [_edit(node, i, constant / factor)] if i == 1 else None
    for i, value in enumerate(node.inputs if node.op_type == "Mul" else node.inputs[:1]):
        if value is None or len(_uses(node, i)) != 1:
            continue
        edits = _into(value, factor, 1, depth) if _holds(value, factor) else None
        if edits is not None:
            return edits
    return None


def _sum(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    edits: list[Change] = []
    for i, value in enumerate(node.inputs):
        constant = _constant(value)
        if constant is not None:
            edits.append(_edit(node, i, constant * factor))
            continue
        if value is None or not _holds(value, factor) or (node.inputs[0] is node.inputs[1]):
            return None
        more = _into(value, factor, 1, depth)
        if more is None:
            return None
        edits += more
    return edits


def _through(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    value = node.inputs[0]
    return None if value is None else _into(value, factor, 1, depth)


def _transpose(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    value, order = node.inputs[0], node.attributes.get("perm")
    permutation = list(reversed(range(factor.ndim))) if order is None else list(order.as_ints())
    return None if value is None else _into(value, factor.transpose(np.argsort(permutation)), 1, depth)


def _reshape(node: ir.Node, factor: np.ndarray, depth: int) -> list[Change] | None:
    """Channels of the last axis split into several (heads), or the other way round."""
    value, result = node.inputs[0], node.outputs[0]
    before, after = _dims(value), _dims(result)
    if value is None or before is None or after is None:
        return None
    head = next((i for i, n in enumerate(factor.shape) if n != 1), factor.ndim)
    for k in range(1, len(before) + 1):  # the shortest tail that holds all factors
        count = _size(before[-k:])
        if count is None:
            return None
        tail = next((j for j in range(1, len(after) + 1) if _size(after[-j:]) == count), None)
        if tail is not None and len(after) - tail <= head:
            full = np.broadcast_to(factor[(0,) * (factor.ndim - tail)], tuple(after[-tail:]))
            moved = full.reshape(before[-k:])
            for axis in range(moved.ndim):  # an axis along which nothing differs is 1 again
                first = moved.take([0], axis)
                moved = first if (moved == first).all() else moved
            return _into(value, moved.reshape([1] * (len(before) - k) + list(moved.shape)), 1, depth)
    return None


_RULES: dict[str, Callable[[ir.Node, np.ndarray, int], list[Change] | None]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    **dict.fromkeys(("Mul", "Div"), _product),
    **dict.fromkeys(("Add", "Sub"), _sum),
    **dict.fromkeys(("Relu", "LeakyRelu", "Identity"), _through),
    "Transpose": _transpose,
    "Reshape": _reshape,
}


def _edit(node: ir.Node, index: int, array: np.ndarray) -> Edit:
    return Edit(node, index, np.ascontiguousarray(array, np.float32))


def _constant(value: ir.Value | None) -> np.ndarray | None:
    """A float32 constant, in float64."""
    array = layers.constant(value)
    return None if array is None or array.dtype != np.float32 else array.astype(np.float64)


def _uses(node: ir.Node, index: int) -> tuple[object, ...]:
    value = node.inputs[index]
    return () if value is None else tuple(value.uses())


def _rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else value.shape.rank()


def _dims(value: ir.Value | None) -> list[int] | None:
    """Dimensions; free ones stay what they are (no int)."""
    return None if value is None or value.shape is None else list(value.shape)  # type: ignore[arg-type]


def _size(dims: list[int]) -> int | None:
    return prod(dims) if all(isinstance(d, int) for d in dims) else None


def _holds(value: ir.Value, factor: np.ndarray) -> bool:
    """Whether a value has an element for each factor, so that nothing broadcasts."""
    dims = _dims(value)
    return (
        dims is not None
        and len(dims) == factor.ndim
        and all(n in (1, d) for n, d in zip(factor.shape, dims, strict=True))
    )
