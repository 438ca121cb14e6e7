"""A linear layer as one form: output channels by input channels by taps, whatever operator holds it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers


@dataclass
class Linear:
    """A Conv, ConvTranspose, Gemm or MatMul with a constant weight that no other node reads.

    Attributes:
        node: the node.
        weight: (groups, out channels of a group, in channels of a group, taps), float64.
        bias: (out channels,) float64, or None.
    """

    node: ir.Node
    weight: np.ndarray
    bias: np.ndarray | None

    @property
    def channels(self) -> tuple[int, int]:
        """Input channels and output channels, of all groups together."""
        groups, out, into, _ = self.weight.shape
        return groups * into, groups * out

    def by_output(self) -> np.ndarray:
        """(out channels,): the largest |weight| of each."""
        result: np.ndarray = np.abs(self.weight).max(axis=(2, 3), initial=0.0).reshape(-1)
        return result

    def by_input(self, *, relative: bool = False) -> np.ndarray:
        """(in channels,): the largest |weight| of each; `relative` to the largest of the output channel it goes to."""
        size = np.abs(self.weight)
        if relative:
            size = size / np.maximum(size.max(axis=(2, 3), keepdims=True, initial=0.0), np.finfo(np.float64).tiny)
        result: np.ndarray = size.max(axis=(1, 3), initial=0.0).reshape(-1)
        return result

    def scale_output(self, factor: np.ndarray) -> None:
        """Multiply each output channel, (out channels,)."""
        groups, out, _, _ = self.weight.shape
        self.weight = self.weight * factor.reshape(groups, out, 1, 1)
        if self.bias is not None:
            self.bias = self.bias * factor

    def scale_input(self, factor: np.ndarray) -> None:
        """Expect each input channel multiplied by a factor (in channels,): the result stays the same."""
        groups, _, into, _ = self.weight.shape
        self.weight = self.weight / factor.reshape(groups, 1, into, 1)

    def of_constant(self, value: np.ndarray) -> np.ndarray:
        """(out channels,): what it gives, without its bias, for inputs that are constant by channel (in channels,)."""
        groups, _, into, _ = self.weight.shape
        result: np.ndarray = np.einsum("goit,gi->go", self.weight, value.reshape(groups, into)).reshape(-1)
        return result

    def store(self, graph: ir.Graph) -> None:
        """Write weight and bias into the graph as new constants of this node."""
        source = self.node.inputs[1]
        old = layers.constant(source)
        assert old is not None and source is not None
        weight = _from_form(self.node, self.weight, old.shape).astype(np.float32)
        self.node.replace_input_with(1, new_constant(graph, f"{source.name}_equalized", weight))
        if self.bias is not None:
            bias = self.node.inputs[2] if len(self.node.inputs) > 2 else None
            name = f"{self.node.outputs[0].name}_bias" if bias is None else str(bias.name)
            self.node.resize_inputs(3)
            self.node.replace_input_with(2, new_constant(graph, f"{name}_equalized", self.bias.astype(np.float32)))


def linear(node: ir.Node) -> Linear | None:
    """The layer as a `Linear`; None where its weight is not a constant of its own or its form is not understood."""
    value = layers.weight_of(node)
    array = layers.constant(value)
    if value is None or array is None or len(value.uses()) != 1 or not np.isfinite(array).all():
        return None
    if node.op_type == "Gemm" and not _plain_gemm(node):
        return None
    if node.op_type == "MatMul" and array.ndim != 2:
        return None
    weight = _to_form(node, array.astype(np.float64))
    source = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    bias = None
    if source is not None:
        found = layers.constant(source)
        if found is None or found.size not in (1, weight.shape[0] * weight.shape[1]) or not np.isfinite(found).all():
            return None
        bias = np.array(np.broadcast_to(found.reshape(-1), (weight.shape[0] * weight.shape[1],)), np.float64)
    return Linear(node, weight, bias)


def new_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """A new initializer of that name, or one like it that is free."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value


def _plain_gemm(node: ir.Node) -> bool:
    for name, plain in (("transA", 0), ("alpha", 1.0), ("beta", 1.0)):
        attribute = node.attributes.get(name)
        if attribute is not None and attribute.value != plain:
            return False
    return True


def _groups(node: ir.Node) -> int:
    group = node.attributes.get("group")
    return 1 if group is None else group.as_int()


def _transposed(node: ir.Node) -> bool:
    attribute = node.attributes.get("transB")
    return node.op_type == "Gemm" and attribute is not None and attribute.as_int() != 0


def _to_form(node: ir.Node, array: np.ndarray) -> np.ndarray:
    groups = _groups(node)
    if node.op_type == "Conv":
        return array.reshape(groups, array.shape[0] // groups, array.shape[1], -1)
    if node.op_type == "ConvTranspose":
        return array.reshape(groups, array.shape[0] // groups, array.shape[1], -1).transpose(0, 2, 1, 3)
    return (array if _transposed(node) else array.T)[None, :, :, None]


def _from_form(node: ir.Node, weight: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Conv":
        return weight.reshape(shape)
    if node.op_type == "ConvTranspose":
        return weight.transpose(0, 2, 1, 3).reshape(shape)
    matrix = weight[0, :, :, 0]
    return matrix if _transposed(node) else matrix.T
