"""Which constants of a model are weights that integers pay for, and how each is looked at as a matrix.

A row of the matrix is what makes one output feature; groups lie along the row.

1. *Products*: MatMul with a matrix, Gemm. Engines can multiply by their integers.
2. *Others*: Conv, ConvTranspose, MatMul with a stack of matrices, LSTM, GRU, RNN, and every float16 weight: engines
   take floats there (`forms`).
3. A weight behind Transpose, Identity or Cast, of which nothing else is made, is one constant first (`settle`).
4. Left alone: small weights, those read in a body of If, Loop or Scan, by nodes of several kinds, or that are an output
   of the graph; those with NaN or infinity.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.weights.edit import Editor, in_main_graph

# Weights of fewer elements stay float: what they save doesn't pay for the nodes.
SMALLEST = 2048
RECURRENT = frozenset({"GRU", "LSTM", "RNN"})
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_MOVES = frozenset({"Cast", "Identity", "Transpose"})


@dataclass(frozen=True)
class Target:
    """A constant weight.

    Attributes:
        value: the constant.
        uses: the nodes that read it and at which input.
        perm: order of the constant's axes in which those of a row come first.
        lead: how many of them make the rows.
        product: whether engines multiply by its integers.
    """

    value: ir.Value
    uses: tuple[tuple[ir.Node, int], ...]
    perm: tuple[int, ...]
    lead: int
    product: bool

    @property
    def name(self) -> str:
        """The constant's name."""
        return str(self.value.name)

    @property
    def node(self) -> ir.Node:
        """The first node that reads it."""
        return self.uses[0][0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the constant."""
        tensor = layers.constant_tensor(self.value)
        assert tensor is not None
        return tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]

    @property
    def size(self) -> tuple[int, int]:
        """(rows, features)."""
        moved = [self.shape[i] for i in self.perm]
        return prod(moved[: self.lead]), prod(moved[self.lead :])

    def matrix(self) -> np.ndarray:
        """float32 (rows, features)."""
        array = layers.constant(self.value)
        assert array is not None
        return np.ascontiguousarray(array.astype(np.float32).transpose(self.perm).reshape(self.size))

    def array(self, matrix: np.ndarray) -> np.ndarray:
        """The inverse of `matrix`, in the matrix' dtype."""
        moved = matrix.reshape([self.shape[i] for i in self.perm])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.perm)))


def find(
    model: ir.Model, exclude: Collection[str] = (), claimed: Collection[ir.Value] = ()
) -> tuple[list[Target], dict[str, str]]:
    """The weights of the main graph in graph order, and why others are left alone (by the constant's name).

    Args:
        model: settled.
        exclude: constants, nodes or operator types that stay float.
        claimed: constants that something else looks after (embedding tables).
    """
    uses: dict[ir.Value, list[tuple[ir.Node, int]]] = {}
    for node in model.graph:
        for slot in _slots(node):
            value = node.inputs[slot]
            tensor = layers.constant_tensor(value)
            if value is not None and tensor is not None and tensor.dtype in FLOATS and value not in claimed:
                uses.setdefault(value, []).append((node, slot))
    found: list[Target] = []
    skipped: dict[str, str] = {}
    for value, readers in uses.items():
        made = _target(model, value, readers, exclude)
        if isinstance(made, Target):
            found.append(made)
        else:
            skipped[str(value.name)] = made
    return found, skipped


def settle(editor: Editor) -> None:
    """Make weights behind Transpose, Identity and Cast one constant, where nothing else is made of what is there."""
    for node in list(editor.graph):
        for slot in _slots(node):
            value = node.inputs[slot]
            chain = _chain(value)
            root = chain[-1].inputs[0] if chain else None
            tensor = layers.constant_tensor(root)
            if value is None or root is None or tensor is None or tensor.dtype not in FLOATS:
                continue
            array = tensor.numpy()
            for step in reversed(chain):
                array = _moved(step, array)
            constant = editor.constant(str(value.name), array)
            ir.convenience.replace_all_uses_with(value, constant)
            editor.drop(value)


def _chain(value: ir.Value | None) -> list[ir.Node]:
    """The nodes that move a constant, from the weight back to it; none where any value between has other readers."""
    chain: list[ir.Node] = []
    while value is not None and (node := value.producer()) is not None:
        source = node.inputs[0] if node.inputs else None
        if not layers.is_onnx(node) or node.op_type not in _MOVES or source is None or value.is_graph_output():
            break
        if len(source.uses()) != 1 or (node.op_type == "Cast" and not _float_cast(node)):
            return []
        chain.append(node)
        value = source
    return chain


def _float_cast(node: ir.Node) -> bool:
    attribute = node.attributes.get("to")
    return attribute is not None and ir.DataType(attribute.as_int()) in FLOATS


def _moved(node: ir.Node, array: np.ndarray) -> np.ndarray:
    if node.op_type == "Transpose":
        attribute = node.attributes.get("perm")
        return array.transpose(None if attribute is None else list(attribute.as_ints()))
    if node.op_type == "Cast":
        return array.astype(ir.DataType(node.attributes["to"].as_int()).numpy())
    return array


def _slots(node: ir.Node) -> Sequence[int]:
    """The inputs of a node that are weights."""
    if not layers.is_onnx(node):
        return ()
    if node.op_type in layers.WEIGHTED and len(node.inputs) > 1:
        return (1,)
    return tuple(i for i in (1, 2) if i < len(node.inputs)) if node.op_type in RECURRENT else ()


def _target(
    model: ir.Model, value: ir.Value, readers: list[tuple[ir.Node, int]], exclude: Collection[str]
) -> Target | str:
    tensor = layers.constant_tensor(value)
    assert tensor is not None
    if value.name in exclude or any(n.name in exclude or n.op_type in exclude for n, _ in readers):
        return "excluded"
    if tensor.size < SMALLEST:
        return f"small ({tensor.size} elements)"
    if value.is_graph_output() or not in_main_graph(model, value):
        return "an output of the graph, or read inside If, Loop or Scan"
    if len(value.uses()) != len(readers):
        return "other nodes read it too"
    views = {_view(node, len(tensor.shape)) for node, _ in readers}
    if len(views) != 1 or (view := views.pop()) is None:
        return "nodes of several kinds read it"
    if not np.isfinite(tensor.numpy()).all():
        return "it holds NaN or infinity"
    perm, lead, product = view
    return Target(value, tuple(readers), perm, lead, product and tensor.dtype == ir.DataType.FLOAT)


def _view(node: ir.Node, rank: int) -> tuple[tuple[int, ...], int, bool] | None:
    """perm, lead and product of a node's weight."""
    axes = tuple(range(rank))
    if rank < 2:
        return None
    if node.op_type == "MatMul":
        return (*axes[:-2], rank - 1, rank - 2), rank - 1, rank == 2
    if node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        return (axes if transposed is not None and transposed.as_int() else axes[::-1]), 1, True
    if node.op_type == "ConvTranspose":
        return (1, 0, *axes[2:]), 1, False
    return axes, (2 if node.op_type in RECURRENT else 1), False
