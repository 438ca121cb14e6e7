"""What onnxruntime's CPU kernels take on x86-64, in nanoseconds of one thread: float32 (blocked NCHWc) against int8.

Fitted to its profile of single layers, release 1.32 on an AMD Zen 4 (AVX-512, VNNI); `benchmarks/kernel_costs.py` takes
the figures again and shows them beside this model's. What matters is the ratios:

- dense convolutions: int8 2–4 × faster, from 16 input channels on;
- under 16 input channels (the first layer of an image model) gathering the pixels costs more than the products;
- depthwise convolutions: the float kernel is 1.1–4 × faster, the more so the fewer channels;
- each way between float and int8 costs a conversion and a reordering of every element.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import onnx_ir as ir

from edgec.quantize import layers

_CALL = 500.0  # one more operator: dispatch, allocation
_FLOAT_MAC, _INT_MAC = 1 / 53, 1 / 220
_PIXEL = {True: 0.8, False: 2.4}  # gathering one tap of one output pixel, by whether ≥ 16 channels are copied at once
_FUSED_IN_FLOAT = frozenset({"HardSwish", "HardSigmoid", "LeakyRelu", "Sigmoid", "Tanh"})  # into the Conv before them


@dataclass(frozen=True)
class Cost:
    """Nanoseconds of a node in float and in integers."""

    in_float: float
    in_integer: float


class Priced(Protocol):
    """What a node costs in float and in integers, in any unit."""

    @property
    def in_float(self) -> float:
        """In float."""
        ...

    @property
    def in_integer(self) -> float:
        """In integers."""
        ...


class Kernels(Protocol):
    """An engine's kernels on some machine, as costs in one unit (nanoseconds, instructions).

    `edgec_targets.profiles.Profile` is one; `X86` is this module's.
    """

    def node_cost(self, node: ir.Node) -> Priced:
        """A node's own cost, conversions apart."""
        ...

    def to_integer(self, value: ir.Value) -> float:
        """Quantizing a value."""
        ...

    def to_float(self, value: ir.Value) -> float:
        """Dequantizing a value."""
        ...


def node_cost(node: ir.Node) -> Cost:
    """A node's own cost, conversions apart."""
    if node.op_type == "Conv":
        return _conv(node)
    if node.op_type in ("Gemm", "MatMul"):
        return _product(node)
    elements = size(node.outputs[0])
    if node.op_type in ("Add", "Sum"):
        fused = any(_fuses_add(v) for v in node.inputs)
        return Cost(0 if fused else _CALL + 0.3 * elements, _CALL + 0.3 * elements)
    if node.op_type == "Mul":
        narrow = any(size(v) not in (elements, 1) for v in node.inputs if v is not None)
        return Cost(_CALL + 0.3 * elements, _CALL + (2.5 if narrow else 0.3) * elements)
    if node.op_type == "Concat":
        return Cost(_CALL + 0.3 * elements, _CALL + 1.5 * elements)
    if node.op_type in layers.POINTWISE:
        fused = _follows_conv(node)
        return Cost(0 if fused else _CALL + 0.8 * elements, _CALL + 0.3 * elements)
    if node.op_type in layers.POOLS:
        elements = size(node.inputs[0])
        return Cost(_CALL + 0.1 * elements, _CALL + 0.1 * elements)
    return Cost(_CALL + 0.2 * elements, _CALL + 0.1 * elements)


def to_integer(value: ir.Value) -> float:
    """Quantizing a float value: out of its blocks where a blocked kernel made it, Q, to channels last."""
    producer = value.producer()
    blocked = producer is not None and producer.op_type not in layers.POINTWISE
    return (2 + blocked) * _CALL + (0.3 + 0.2 * blocked) * size(value)


def to_float(value: ir.Value) -> float:
    """Dequantizing a value: DQ, into blocks where a blocked kernel reads it; and what float would have fused."""
    producer = value.producer()
    if producer is not None and producer.op_type in ("Gemm", "MatMul"):
        return 0.0  # these kernels can give float themselves
    after_conv = producer is not None and producer.op_type == "Conv"
    cost, blocked = _CALL + 0.22 * size(value), False
    for consumer in value.consumers():
        blocked = blocked or consumer.op_type not in layers.POINTWISE
        if after_conv and consumer.op_type in _FUSED_IN_FLOAT:
            cost += 2 * _CALL + 0.6 * size(value)
        if consumer.op_type == "Add" and _fuses_add(value):
            cost += _CALL + 0.3 * size(value)
    return cost + blocked * (_CALL + 0.22 * size(value))


def size(value: ir.Value | None) -> int:
    """Elements of a value; free dimensions count as 1."""
    if value is None or value.shape is None:
        return 1
    return prod(d if isinstance(d, int) else 1 for d in value.shape)


def _conv(node: ir.Node) -> Cost:
    weight = node.inputs[1]
    assert weight is not None and weight.shape is not None
    cout, cin, *kernel = (int(d) for d in weight.shape)  # type: ignore[arg-type]
    group = node.attributes.get("group")
    groups = 1 if group is None else group.as_int()
    taps, pixels = prod(kernel), size(node.outputs[0]) // max(cout, 1)
    macs = pixels * cout * cin * taps
    padded = -(-cout // 16) * 16 / cout
    if cin == 1 and groups == cout:
        scalar = 1.0 if cout >= 16 else 1.8
        integer = 2 * _CALL + pixels * taps * (0.7 + 0.042 * cout) * scalar
        return Cost(_CALL + macs * padded * 0.025, integer)
    narrow = 16 / cin if 4 < cin < 16 else 1.15 if cin <= 4 else 1.0
    strides = node.attributes.get("strides")
    gathered = taps > 1 or (strides is not None and any(s != 1 for s in strides.as_ints()))
    gather = pixels * taps * groups * _PIXEL[cin >= 16] if gathered else 0.0
    return Cost(
        _CALL + macs * padded * narrow * _FLOAT_MAC, 2 * _CALL + macs * _INT_MAC + 0.09 * pixels * cout + gather
    )


def _product(node: ir.Node) -> Cost:
    weight = node.inputs[1]
    k = int(weight.shape[-2]) if weight is not None and weight.shape is not None else 1  # type: ignore[arg-type]
    if weight is not None and weight.shape is not None and node.op_type == "Gemm":
        transposed = node.attributes.get("transB")
        k = int(weight.shape[1 if transposed is not None and transposed.as_int() else 0])  # type: ignore[arg-type]
    n = layers.output_channels(node, tuple(int(d) for d in weight.shape)) if weight and weight.shape else 1  # type: ignore[arg-type]
    rows = max(1, size(node.outputs[0]) // max(n, 1))
    # Few rows: reading the weights, four bytes each or one, is what takes time.
    read = k * n * 0.1
    return Cost(_CALL + max(rows * k * n * _FLOAT_MAC, read), 2 * _CALL + max(rows * k * n * _INT_MAC, read / 4))


def _follows_conv(node: ir.Node) -> bool:
    source = node.inputs[0]
    producer = source.producer() if source is not None else None
    return producer is not None and producer.op_type == "Conv" and len(producer.outputs[0].uses()) <= 2


def _fuses_add(value: ir.Value | None) -> bool:
    """Whether float joins an Add of this value to the Conv that makes it."""
    producer = value.producer() if value is not None else None
    return (
        value is not None
        and producer is not None
        and producer.op_type == "Conv"
        and len(value.uses()) == 1
        and value.consumers()[0].op_type == "Add"
    )


class _X86:
    node_cost = staticmethod(node_cost)
    to_integer = staticmethod(to_integer)
    to_float = staticmethod(to_float)


X86: Kernels = _X86()
"""onnxruntime's kernels on x86-64: this module's formulas."""
