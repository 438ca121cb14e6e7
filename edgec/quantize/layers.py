"""What a node is to quantization, engine-neutral: its weight, bias, channels, and which values carry activations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

# Layers with a constant weight, the ones whose arithmetic gains from integers.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Moved or selected elements only: input and output have the same values, so the same scale. Input 0 is the data.
SAME_VALUES = frozenset(
    {
        *(
            "DepthToSpace",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "GlobalMaxPool",
            "Identity",
            "MaxPool",
            "ReduceMax",
            "ReduceMin",
            "Reshape",
        ),
        *("Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "Sub"})
ACTIVATIONS = frozenset({"Clip", "Relu"})
POINTWISE = frozenset({"Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Tanh"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
QUANTIZABLE = WEIGHTED | SAME_VALUES | BINARY | ACTIVATIONS | POINTWISE | POOLS | {"Concat", "Pad", "Softmax", "Where"}
# Their results depend on small differences of their input over a wide range: eight bits are not enough.
WIDE_RANGE = frozenset({"Exp", "Log", "Pow", "Reciprocal", "Sqrt"})


def is_onnx(node: ir.Node) -> bool:
    """Whether the node is of the standard operator set."""
    return node.domain in ("", "ai.onnx")


def layer_names(model: ir.Model) -> dict[ir.Node, str]:
    """A unique name for each node of the main graph: its own, or its first output's where that is missing or shared."""
    counts = Counter(node.name for node in model.graph)
    return {
        node: node.name if node.name and counts[node.name] == 1 else str(node.outputs[0].name)
        for node in model.graph
        if node.outputs
    }


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The array of a constant (an initializer that is not also an input, or a Constant node), else None."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """As `constant`, without reading the data."""
    if value is None or value.is_graph_input():
        return None
    return ir.convenience.get_const_tensor(value)


def weight_of(node: ir.Node) -> ir.Value | None:
    """The constant float32 weight of a weighted layer, else None."""
    if not is_onnx(node) or node.op_type not in WEIGHTED or len(node.inputs) < 2:
        return None
    weight = node.inputs[1]
    tensor = constant_tensor(weight)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size == 0:
        return None
    if len(tensor.shape) < 2 or (node.op_type == "Gemm" and len(tensor.shape) != 2):
        return None
    return weight


def output_channels(node: ir.Node, shape: tuple[int, ...]) -> int:
    """How many output channels a weight of this shape gives."""
    if node.op_type == "Conv":
        return shape[0]
    if node.op_type == "ConvTranspose":
        return shape[1] * int(_int(node, "group", 1))
    if node.op_type == "Gemm":
        return shape[0 if _int(node, "transB", 0) else 1]
    return shape[-1]


def weight_axis(node: ir.Node, rank: int) -> int | None:
    """The axis of the weight that has one scale each; None where one scale serves the whole tensor.

    Conv (M, C/g, k…): 0. Gemm (K, N): 1, or 0 with transB. MatMul (K, N): 1; a stack of matrices: none.
    ConvTranspose (C, M/g, k…): 1; with groups the channels of axis 1 are shared by the groups.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if _int(node, "transB", 0) else 1
    return 1 if rank == 2 else None


def known_minimum(value: ir.Value) -> float | None:
    """0.0 where the producer can't give less (Relu, Clip from 0, Sigmoid, Softmax …), else None."""
    node = value.producer()
    if node is None or not is_onnx(node):
        return None
    if node.op_type in ("Relu", "Sigmoid", "HardSigmoid", "Softmax"):
        return 0.0
    if node.op_type == "Clip":
        bounds = clip_bounds(node)
        return 0.0 if bounds is not None and bounds[0] >= 0 else None
    return None


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """(min, max) of a Relu or a Clip with constant bounds (opset ≥ 11: inputs), infinite where absent; else None."""
    if node.op_type == "Relu":
        return 0.0, float("inf")
    if node.op_type != "Clip":
        return None
    bounds = [-float("inf"), float("inf")]
    for i, value in enumerate(node.inputs[1:3]):
        if value is None:
            continue
        array = constant(value)
        if array is None or array.size != 1:
            return None
        bounds[i] = float(array.reshape(()))
    return bounds[0], bounds[1]


def useful_range(value: ir.Value) -> tuple[float, float]:
    """The part of a value's range that its consumers tell apart; saturating outside it changes nothing.

    HardSwish is 0 below −3, so is HardSigmoid below −beta/alpha and 1 above (1 − beta)/alpha; Relu and Clip cut too.
    """
    low, high = float("inf"), -float("inf")
    for consumer in value.consumers():
        bounds = (-float("inf"), float("inf"))
        if is_onnx(consumer) and consumer.inputs[0] is value:
            if consumer.op_type == "HardSwish":
                bounds = (-3.0, float("inf"))
            elif consumer.op_type == "HardSigmoid":
                alpha, beta = (consumer.attributes.get(k) for k in ("alpha", "beta"))
                a, b = (0.2 if alpha is None else alpha.as_float()), (0.5 if beta is None else beta.as_float())
                bounds = (-b / a, (1 - b) / a) if a > 0 else bounds
            else:
                bounds = clip_bounds(consumer) or bounds
        low, high = min(low, bounds[0]), max(high, bounds[1])
    unbounded = value.is_graph_output() or not value.consumers()
    return (-float("inf"), float("inf")) if unbounded else (low, high)


def activation_inputs(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """Index and value of the inputs that carry float32 activations (not weights, biases, shapes, bounds)."""
    if weight_of(node) is not None or node.op_type in SAME_VALUES | ACTIVATIONS | POOLS | POINTWISE | {
        "Pad",
        "Softmax",
    }:
        candidates = node.inputs[:1]
    else:
        candidates = node.inputs
    for i, value in enumerate(candidates):
        if value is not None and constant_tensor(value) is None:
            yield i, value


def float_values(model: ir.Model) -> set[ir.Value]:
    """The float32 values of the main graph; a type that the model doesn't say follows from the producer's inputs."""
    result = {v for v in model.graph.inputs if v.dtype == ir.DataType.FLOAT}
    for node in model.graph:
        for value in node.outputs:
            if value.dtype is None and is_onnx(node) and node.op_type in QUANTIZABLE and node.inputs:
                first = node.inputs[0]
                if first in result or weight_of(node) is not None:
                    result.add(value)
            elif value.dtype == ir.DataType.FLOAT:
                result.add(value)
    return result


def quantizable_values(model: ir.Model) -> list[ir.Value]:
    """Every float32 value of the main graph that some engine may want quantized, in graph order."""
    floats = float_values(model)
    seen: dict[ir.Value, None] = {}
    for node in model.graph:
        if not is_onnx(node) or node.op_type not in QUANTIZABLE:
            continue
        for value in (*(v for _, v in activation_inputs(node)), *node.outputs):
            if value in floats and value.name:
                seen.setdefault(value)
    return list(seen)


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
