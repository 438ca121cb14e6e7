"""The work of a layer of a float ONNX model, in float and in integers, before anything is placed or fused.

For deciding which layers become integers: what a file really holds is read from the file (`tflite.py`, `onnx_file.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgec_targets.profiles.work import Numbers, Work, depthwise, pair

if TYPE_CHECKING:
    import onnx_ir as ir

_ABSORBED = frozenset({"Clip", "Relu"})  # into the layer before, in float and in integers
_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True)
class Words:
    """How an engine's files call things, and what it joins.

    Attributes:
        names: ONNX operator -> (in float, in integers); else the operator in lower case for both.
        quantize, dequantize: names of the conversions.
        planes: depthwise kernels in float go channel by channel.
        joins_sums: a float Add is computed in the Conv that makes one of its operands.
        float_output: an integer product can give float itself.
        dynamic: products quantize their float input as they run.
        tables: functions of one number that are looked up between integers: no conversion around them.
    """

    names: dict[str, tuple[str, str]]
    quantize: str
    dequantize: str
    planes: bool = False
    joins_sums: bool = False
    float_output: bool = False
    dynamic: bool = False
    tables: frozenset[str] = frozenset()

    def work(self, node: ir.Node, integer: bool) -> list[Work]:
        """A node's kernels."""
        kind, numbers = node.op_type, _numbers(integer)
        result = node.outputs[0]
        if kind == "Conv":
            return [self._conv(node, numbers)]
        if kind in ("Gemm", "MatMul"):
            return [_product(node, "dynamic" if integer and self.dynamic else numbers)]
        if kind in _VIEWS:
            return [Work("reshape", numbers, size(result), size(result))]
        if kind in _ABSORBED and _follows_layer(node):
            return []
        if kind in ("Add", "Sum") and not integer and self.joins_sums and any(_summed(v) for v in node.inputs):
            return []
        name = self.names.get(kind, (kind.lower(), kind.lower()))[integer]
        shape = _shape(result)
        last = max(shape[-1] if shape else 1, 1)
        sizes = [size(v) for v in node.inputs if v is not None]
        larger = max(size(result), *sizes)
        if "{}" in name:
            return [Work(name.format(pair(sizes)), numbers, larger, last)]
        if kind in ("MaxPool", "AveragePool"):
            window = node.attributes.get("kernel_shape")
            taps = prod(window.as_ints()) if window is not None else 1
            return [Work(name, numbers, size(result) * taps, taps)]
        return [Work(name, numbers, larger, last)]

    def to_integer(self, value: ir.Value) -> list[Work]:
        """Quantizing a value."""
        producer = value.producer()
        if producer is not None and producer.op_type in self.tables:
            return [Work("table", "int8", size(value), _last(value))]
        return [Work(self.quantize, "float", size(value), _last(value))]

    def to_float(self, value: ir.Value) -> list[Work]:
        """Dequantizing a value, and the sum that float would have joined to its layer."""
        producer = value.producer()
        if self.float_output and producer is not None and producer.op_type in ("Gemm", "MatMul"):
            return []
        if all(node.op_type in self.tables for node in value.consumers()) and not value.is_graph_output():
            return []
        found = [Work(self.dequantize, "int8" if self.joins_sums else "float", size(value), _last(value))]
        if self.joins_sums and _summed(value):
            found.append(Work("add.wide", "float", size(value), _last(value)))
        return found

    def _conv(self, node: ir.Node, numbers: Numbers) -> Work:
        weight, shape = node.inputs[1], _shape(node.outputs[0])
        cout, cin, *window = _shape(weight)
        group = node.attributes.get("group")
        groups, taps = 1 if group is None else group.as_int(), prod(window)
        pixels = max(prod(shape) // max(cout, 1), 1)
        lines = max(pixels // max(shape[-1] if len(shape) > 2 else 1, 1), 1)
        given = node.attributes.get("strides")
        strides = [1] if given is None else list(given.as_ints())
        strided = any(s != 1 for s in strides)
        if cin == 1 and groups == cout and groups > 1:
            alike = not self.planes or numbers != "float"
            kind = "depthwise" if alike else f"depthwise.{depthwise(window, strides)}"
            return Work(kind, numbers, pixels, groups, 1, taps, groups, lines, True)
        kind = "conv.strided" if self.planes and numbers == "float" and strides[-1] != 1 else "conv"
        return Work(kind, numbers, pixels, cout // groups, cin, taps, groups, lines, taps > 1 or strided)


def size(value: ir.Value | None) -> int:
    """Elements of a value; free dimensions count as 1."""
    return prod(_shape(value))


def _shape(value: ir.Value | None) -> list[int]:
    if value is None or value.shape is None:
        return []
    return [d if isinstance(d, int) else 1 for d in value.shape]


def _last(value: ir.Value) -> int:
    shape = _shape(value)
    return max(shape[-1] if shape else 1, 1)


def _numbers(integer: bool) -> Numbers:
    return "int8" if integer else "float"


def _product(node: ir.Node, numbers: Numbers) -> Work:
    shape, first, second = _shape(node.outputs[0]), _shape(node.inputs[0]), node.inputs[1]
    n = shape[-1] if shape else 1
    flag = node.attributes.get("transA")
    inner = first[0 if node.op_type == "Gemm" and flag is not None and flag.as_int() else -1] if first else 1
    if second is not None and second.const_value is not None and len(_shape(second)) == 2:
        return Work("product", numbers, max(prod(shape) // max(n, 1), 1), n, inner)
    return Work("product.pair", numbers, shape[-2] if len(shape) > 1 else 1, n, inner, 1, prod(shape[:-2]))


def _follows_layer(node: ir.Node) -> bool:
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    return producer is not None and producer.op_type in ("Conv", "Gemm", "Add") and len(producer.outputs[0].uses()) == 1


def _summed(value: ir.Value | None) -> bool:
    """Whether a Conv makes this value for an Add alone."""
    producer = value.producer() if value is not None else None
    return (
        value is not None and producer is not None and producer.op_type == "Conv" and len(value.uses()) == 1
        and value.consumers()[0].op_type == "Add"
    )  # fmt: skip


LITERT = Words(
    names={
        "Add": ("add.{}", "add.{}"), "Sub": ("sub.{}", "sub.{}"), "Mul": ("mul.{}", "mul.{}"),
        "Div": ("div.{}", "div.{}"), "Concat": ("concatenation", "concatenation"), "Sigmoid": ("logistic", "logistic"),
        "HardSwish": ("hard_swish", "hard_swish"), "MaxPool": ("max_pool_2d", "max_pool_2d"),
        "AveragePool": ("average_pool_2d", "average_pool_2d"), "GlobalAveragePool": ("mean.outer", "mean.outer"),
        "ReduceMean": ("mean.outer", "mean.outer"), "LeakyRelu": ("leaky_relu", "leaky_relu"),
        "Transpose": ("transpose.rows", "transpose.rows"), "Clip": ("relu", "relu"),
    },
    quantize="quantize", dequantize="dequantize", dynamic=True,
    tables=frozenset({"Sigmoid", "Tanh", "HardSwish", "Gelu", "Elu", "HardSigmoid"}),
)  # fmt: skip
ONNXRUNTIME = Words(
    names={
        "Add": ("add.{}", "qlinearadd.{}"), "Mul": ("mul.{}", "qlinearmul.{}"), "Sub": ("sub.{}", "sub.{}"),
        "Div": ("div.{}", "div.{}"), "Concat": ("concat", "qlinearconcat"), "Sigmoid": ("sigmoid", "qlinearsigmoid"),
        "AveragePool": ("averagepool", "qlinearaveragepool"), "LeakyRelu": ("leakyrelu", "qlinearleakyrelu"),
        "GlobalAveragePool": ("globalaveragepool", "qlinearglobalaveragepool"), "Sum": ("sum.{}", "sum.{}"),
        "Transpose": ("transpose.elements", "transpose.elements"),
    },
    quantize="quantizelinear", dequantize="dequantizelinear", planes=True, joins_sums=True, float_output=True,
)  # fmt: skip
