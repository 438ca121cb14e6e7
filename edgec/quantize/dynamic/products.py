"""MatMul and Gemm as ONNX's dynamic integer operators, in the form that onnxruntime fuses.

    MatMul(x, W) (+ b)  ->  x_q, x_s, x_z = DynamicQuantizeLinear(x)
                            Cast(MatMulInteger(x_q, W_q, x_z)) · (x_s · w_s) (+ b)

Standard operators of opset 11, so every runtime has them; onnxruntime makes DynamicQuantizeMatMul of the whole, or
MatMulIntegerToFloat where several layers share one x (tests/quantize/test_dynamic_products.py looks at its graph).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.arithmetic import quantize_weight
from edgec.quantize.weights.edit import Editor


@dataclass(frozen=True)
class Product:
    """A layer that becomes integer.

    Attributes:
        node: MatMul or Gemm.
        name: its name.
        weight: float32 (features, results), Gemm's alpha and transB taken in.
        bias: Gemm's constant C with beta taken in, float32; None where there is none.
    """

    node: ir.Node
    name: str
    weight: np.ndarray
    bias: np.ndarray | None

    @property
    def value(self) -> ir.Value:
        """What it multiplies."""
        value = self.node.inputs[0]
        assert value is not None
        return value


@dataclass(frozen=True)
class Rounded:
    """Integer weights: data int8 (features, results), scale float32 () or (results,)."""

    data: np.ndarray
    scale: np.ndarray


def product(node: ir.Node, name: str, floats: set[ir.Value]) -> Product | str:
    """The layer, or why it stays float."""
    value = node.inputs[0] if node.inputs else None
    weight = layers.constant(layers.weight_of(node))
    if weight is None or value is None or layers.constant_tensor(value) is not None:
        return "it multiplies two activations, or a constant by an activation"
    if value not in floats:
        return "its input is not float32"
    if weight.ndim != 2:
        return "a stack of matrices"
    if not np.isfinite(weight).all():
        return "its weights hold NaN or infinity"
    if node.op_type == "MatMul":
        return Product(node, name, weight, None)
    numbers = {k: a for k in ("alpha", "beta", "transA", "transB") if (a := node.attributes.get(k)) is not None}
    if "transA" in numbers and numbers["transA"].as_int():
        return "its input is transposed"
    if "transB" in numbers and numbers["transB"].as_int():
        weight = weight.T
    if "alpha" in numbers:
        weight = weight * np.float32(numbers["alpha"].as_float())
    bias = None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = layers.constant(node.inputs[2])
        if bias is None or bias.dtype != np.float32:
            return "its bias is no constant"
        bias = bias * np.float32(numbers["beta"].as_float()) if "beta" in numbers else bias
    return Product(node, name, np.ascontiguousarray(weight), bias)


def round_to_nearest(product: Product, *, per_channel: bool, limit: int) -> Rounded:
    """Each weight to the nearest integer, symmetric."""
    made = quantize_weight(product.weight, axis=1 if per_channel else None, qmax=limit)
    return Rounded(made.data, made.scale)


class Writer:
    """Puts the integer operators where layers were; one DynamicQuantizeLinear a value.

    Args:
        graph: the main graph; changed.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._editor = Editor(graph)
        self._quantized: dict[ir.Value, tuple[ir.Value, ...]] = {}

    def replace(self, product: Product, rounded: Rounded) -> None:
        """Make one layer integer; its result keeps its name."""
        node, editor = product.node, self._editor
        name, weight = str(node.outputs[0].name), node.inputs[1]
        assert weight is not None
        bias_value = node.inputs[2] if node.op_type == "Gemm" and len(node.inputs) > 2 else None
        integers, scale, zero = self._dynamic(product.value, node)
        constants = {"quantized": rounded.data, "scale": np.atleast_1d(rounded.scale).astype(np.float32)}
        data, spread = (editor.constant(f"{weight.name}_{k}", a) for k, a in constants.items())
        sums = editor.node("MatMulInteger", [integers, data, zero], f"{name}_integer", kind=ir.DataType.INT32)
        real = editor.node(
            "Cast", [sums.outputs[0]], f"{name}_real", {"to": int(ir.DataType.FLOAT)}, kind=ir.DataType.FLOAT
        )
        both = editor.node("Mul", [scale, spread], f"{name}_scale", kind=ir.DataType.FLOAT)
        nodes = [sums, real, both]
        last = editor.node("Mul", [real.outputs[0], both.outputs[0]], f"{name}_scaled", kind=ir.DataType.FLOAT)
        nodes.append(last)
        if product.bias is not None:
            bias = editor.constant(f"{name}_bias", np.ascontiguousarray(product.bias, np.float32))
            nodes.append(editor.node("Add", [last.outputs[0], bias], f"{name}_biased", kind=ir.DataType.FLOAT))
        editor.replace(node, nodes)
        for old in (weight, bias_value):
            if old is not None:
                editor.drop(old)

    def _dynamic(self, value: ir.Value, before: ir.Node) -> tuple[ir.Value, ...]:
        if value not in self._quantized:
            kinds = {"quantized": ir.DataType.UINT8, "scale": ir.DataType.FLOAT, "zero_point": ir.DataType.UINT8}
            outputs = [
                ir.Value(name=self._editor.free(f"{value.name}_{k}"), type=ir.TensorType(t)) for k, t in kinds.items()
            ]
            name = self._editor.free(f"{value.name}_quantize")
            node = ir.node("DynamicQuantizeLinear", [value], outputs=outputs, name=name)
            self._editor.graph.insert_before(before, node)
            self._quantized[value] = tuple(outputs)
        return self._quantized[value]
