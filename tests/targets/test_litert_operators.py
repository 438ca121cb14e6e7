"""Other operators by models of one node, LiteRT's answer beside ONNX Runtime's; what has a writer, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("ai_edge_litert")

from edgec_targets.emitters.litert.conversion import convert
from edgec_targets.emitters.litert.registry import find
from tests.targets.one_node import Fed, check, i64, model, normal, x

SHAPING: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Reshape", [x(2, 3, 4), i64(4, -1)], {}),
    ("Reshape", [x(2, 3, 4), i64(0, -1)], {}),
    ("Flatten", [x(2, 3, 4, 5)], {"axis": 2}),
    ("Squeeze", [x(1, 3, 1, 5), i64(0, 2)], {}),
    ("Unsqueeze", [x(3, 5), i64(0, 3)], {}),
    ("Transpose", [x(2, 3, 4, 5)], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [x(2, 3, 4)], {}),
    ("Transpose", [x(2, 1, 3, 2, 2, 3)], {"perm": [0, 5, 2, 4, 1, 3]}),
    ("Slice", [x(4, 6, 5), i64(1, 0), i64(4, 5), i64(0, 2)], {}),
    ("Slice", [x(4, 6, 5), i64(-1, 5), i64(-100, 0), i64(0, 1), i64(-1, -2)], {}),
    ("Slice", [x(4, 6), i64(0), i64(100), i64(1), i64(2)], {}),
    ("Expand", [x(1, 3, 1), i64(2, 3, 4)], {}),
    ("Expand", [x(3, 1), i64(2, 1, 4)], {}),
    ("Tile", [x(2, 3), i64(2, 3)], {}),
    ("Pad", [x(2, 3, 4), i64(0, 1, 2, 0, 0, 1)], {}),
    ("Pad", [x(2, 3, 4), i64(0, 1, 2, 0, 0, 1), np.float32(2.5)], {}),
    ("Pad", [x(2, 5, 6), i64(0, 1, 2, 0, 3, 1)], {"mode": "reflect"}),
    ("Pad", [x(2, 5, 6), i64(0, 1, 2, 0, 3, 1)], {"mode": "edge"}),
    ("Pad", [x(2, 5, 6), i64(0, -1, 2, 0, 0, -2)], {}),
    ("DepthToSpace", [x(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [x(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [x(1, 2, 4, 6)], {"blocksize": 2}),
    ("Gather", [x(5, 3, 4), i64(0, -1, 2)], {"axis": 0}),
    ("Gather", [x(2, 5, 3, 4), i64(4, 1)], {"axis": 1}),
    ("Gather", [x(5, 3), np.int64(-2)], {"axis": 0}),
    ("Gather", [normal(7, 3), Fed(i64(6, 0, -1))], {"axis": 0}),
    ("Gather", [x(5, 3), Fed(np.array([[0, 1], [-5, 4]], np.int32))], {"axis": 0}),
    ("GatherElements", [x(3, 4), np.array([[0, -1], [2, 1]], np.int64)], {"axis": 1}),
    ("GatherElements", [x(3, 4), Fed(np.array([[0, -1], [2, 1]], np.int64))], {"axis": 0}),
    ("GatherND", [x(3, 4, 2), np.array([[0, -1], [2, 1]], np.int64)], {}),
    ("GatherND", [x(2, 4, 2), np.array([[1], [-1]], np.int64)], {"batch_dims": 1}),
    ("GatherND", [x(3, 4, 2), Fed(np.array([[0, -1], [2, 1]], np.int64))], {}),
    ("ScatterND", [x(4, 3), np.array([[1], [-1]], np.int64), x(2, 3)], {}),
    ("CumSum", [x(3, 4), np.int64(1)], {}),
    ("CumSum", [x(3, 4), np.int64(-2)], {"reverse": 1, "exclusive": 1}),
    ("ArgMax", [x(3, 4, 2)], {"axis": 1}),
    ("ArgMin", [x(3, 4)], {"axis": -1, "keepdims": 0}),
    ("ArgMax", [Fed(np.array([[1, 3, 3, 2]], np.float32))], {"axis": 1, "select_last_index": 1}),
    ("OneHot", [Fed(i64(0, 2, -1, 9)), np.int64(4), np.array([0.5, 2.0], np.float32)], {}),
    ("Trilu", [x(2, 4, 5)], {}),
    ("Trilu", [x(4, 5), np.int64(-1)], {"upper": 0}),
    ("Where", [Fed(normal(3, 4) > 0), x(3, 4), x(4)], {}),
    ("And", [Fed(normal(3) > 0), Fed(normal(1, 3) > 1)], {}),
    ("Or", [Fed(normal(3) > 0), Fed(normal(2, 3) > 1)], {}),
    ("Xor", [Fed(normal(3) > 0), Fed(normal(2, 3) > 0)], {}),
    ("Not", [Fed(normal(3) > 0)], {}),
    ("Cast", [x(3, 4)], {"to": onnx.TensorProto.INT64}),
    ("Cast", [Fed(i64(0, 2, -3))], {"to": onnx.TensorProto.BOOL}),
    ("Cast", [Fed(normal(5) > 0)], {"to": onnx.TensorProto.FLOAT}),
    ("Clip", [x(3, 4), np.float32(-0.3), np.float32(0.7)], {}),
    ("Clip", [x(3, 4), None, np.float32(0.7)], {}),
    ("Clip", [x(3, 4), np.float32(0), np.float32(6)], {}),
    ("Clip", [x(3, 4), Fed(np.float32(-0.5)), Fed(np.float32(0.5))], {}),
    ("Mod", [Fed(i64(5, -5, 4)), i64(3, 3, -3)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), np.float32(2)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), np.float32(0.5)], {}),
    ("Pow", [x(3, 4), np.float32(3)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), x(4)], {}),
    ("BatchNormalization", [x(2, 3, 4, 5), normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.1], {}),
    ("InstanceNormalization", [x(2, 3, 4, 5), normal(3), normal(3)], {}),
    ("GroupNormalization", [x(2, 6, 4, 5), normal(6), normal(6)], {"num_groups": 3}),
    ("LayerNormalization", [x(2, 3, 8), normal(8), normal(8)], {}),
    ("LayerNormalization", [x(2, 3, 8), normal(3, 8)], {"axis": 1}),
    ("LRN", [x(1, 7, 3, 4)], {"size": 5, "alpha": 0.02, "beta": 0.6, "bias": 1.5}),
    ("LpNormalization", [x(3, 4)], {"axis": 1}),
    ("LpNormalization", [x(3, 4)], {"axis": 0, "p": 1}),
    ("MeanVarianceNormalization", [x(2, 3, 4, 5)], {}),
    ("Dropout", [x(3, 4)], {}),
    ("Tan", [x(3, 4)], {}),
    ("IsInf", [Fed(np.array([np.inf, -np.inf, 1], np.float32))], {}),
    ("IsInf", [Fed(np.array([np.inf, -np.inf, 1], np.float32))], {"detect_negative": 0}),
    ("Einsum", [x(2, 3, 4, 5), x(2, 3, 6, 5)], {"equation": "bhid,bhjd->bhij"}),
    ("Einsum", [x(2, 3, 4), x(4, 5)], {"equation": "bik,kj->bji"}),
    ("Einsum", [x(3, 4), x(5)], {"equation": "ij,k->kij"}),
    ("Einsum", [x(3, 4, 5)], {"equation": "ijk->ki"}),
    ("Einsum", [x(3, 4), x(4, 2)], {"equation": "ij,jk"}),
    ("MaxPool", [x(1, 3, 9)], {"kernel_shape": [3], "strides": [2]}),
    ("AveragePool", [x(1, 3, 6, 6)], {"kernel_shape": [6, 6]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes"), SHAPING)
def test_other_operators(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    check(*model(op, *inputs, **attributes))


def test_split_and_top_k_and_concat() -> None:
    check(*model("Split", x(2, 7, 3), i64(2, 5), outputs=2, axis=1))
    check(*model("Split", x(2, 7), outputs=3, axis=1, num_outputs=3))
    check(*model("TopK", x(3, 9), i64(4), outputs=2))
    check(*model("TopK", x(3, 9), i64(2), outputs=2, axis=0, largest=0))
    check(*model("Concat", x(1, 3, 2, 2), normal(1, 2, 2, 2), x(1, 1, 2, 2), axis=1))


RESIZES: list[dict[str, Any]] = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "cubic", "cubic_coeff_a": -0.5},
    {"mode": "cubic", "exclude_outside": 1},
]


@pytest.mark.parametrize("attributes", RESIZES, ids=lambda a: "-".join(map(str, a.values())))
@pytest.mark.parametrize("size", [(1, 2, 8, 10), (1, 2, 7, 5), (1, 2, 2, 3)], ids=str)
def test_resize(attributes: dict[str, Any], size: tuple[int, ...]) -> None:
    check(*model("Resize", x(1, 2, 4, 5), None, None, i64(*size), **attributes))


@pytest.mark.parametrize("scale", [2.0, 1.5, 0.6])
def test_resize_by_scales(scale: float) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    check(*model("Resize", x(1, 2, 5, 5), None, scales, mode="linear"))
    check(*model("Resize", x(1, 2, 5, 5), None, scales, mode="nearest", coordinate_transformation_mode="asymmetric"))


def test_a_plain_upscaling_is_one_operator() -> None:
    made = check(*model("Resize", x(1, 2, 4, 5), None, None, i64(1, 2, 8, 10), mode="linear"))
    assert made["RESIZE_BILINEAR"] == 1 and "GATHER" not in made


RECURRENT = [
    ("LSTM", 4, 3, {}), ("LSTM", 4, 3, {"direction": "reverse"}), ("LSTM", 4, 3, {"direction": "bidirectional"}),
    ("GRU", 3, 2, {}), ("GRU", 3, 2, {"linear_before_reset": 1}), ("GRU", 3, 2, {"direction": "bidirectional"}),
    ("RNN", 1, 2, {}), ("RNN", 1, 2, {"activations": ["Relu"]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "gates", "outputs", "attributes"), RECURRENT)
@pytest.mark.parametrize("state", [False, True])
def test_recurrent(op: str, gates: int, outputs: int, attributes: dict[str, Any], state: bool) -> None:
    steps, batch, width, units = 5, 2, 3, 4
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    weights = [
        normal(count, gates * units, width),
        normal(count, gates * units, units),
        normal(count, 2 * gates * units),
    ]
    states = [x(count, batch, units)] * (2 if op == "LSTM" else 1) if state else []
    inputs = [x(steps, batch, width), *weights, None, *states]
    check(*model(op, *inputs, outputs=outputs, hidden_size=units, **attributes), atol=1e-5)


@pytest.mark.parametrize("shape", [(200, 2), (1, 300, 2), (1, 2, 15, 15), (3, 2)])
def test_a_softmax_of_pairs_is_a_logistic_function(shape: tuple[int, ...]) -> None:
    large = Fed(40 * normal(*shape))
    counts = check(*model("Softmax", large, axis=shape.index(2)), atol=1e-6)
    assert ("LOGISTIC" in counts) == (np.prod(shape) >= 256) and ("SOFTMAX" in counts) != ("LOGISTIC" in counts)


def test_a_normalizations_mean_and_factor() -> None:
    check(*model("LayerNormalization", x(2, 3, 8), normal(8), normal(8), outputs=3))


# The operators that real models use: vision, speech and text, float and quantized.
REAL = [
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Identity",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mul",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "Range",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
]
ELSEWHERE = {"Constant", "ConstantOfShape", "Range", "Shape"}, {"DynamicQuantizeLinear", "MatMulInteger"}
"""Computed when the file is written; rewritten before."""


@pytest.mark.parametrize("op", REAL)
def test_operators_of_real_models_have_a_writer(op: str) -> None:
    writer = find(ir.Node("", op, []))
    assert (writer is None) == any(op in some for some in ELSEWHERE)


REFUSED: list[tuple[str, Sequence[Any], dict[str, Any], str]] = [
    ("Conv", [x(1, 2, 4, 4, 4), normal(3, 2, 2, 2, 2)], {}, "3 spatial axes"),
    ("MaxPool", [x(1, 2, 8, 8)], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
    ("GridSample", [x(1, 1, 4, 4), x(1, 2, 2, 2)], {}, "no such operator"),
    ("Mod", [x(3), x(3)], {"fmod": 1}, "sign of the dividend"),
    ("Add", [Fed(np.ones(3, np.int8)), Fed(np.ones(3, np.int8))], {}, "no scale"),
    ("LRN", [x(1, 7, 3, 4)], {"size": 4}, "odd size"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "why"), REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(
    op: str, inputs: Any, attributes: dict[str, Any], why: str
) -> None:
    proto, _ = model(op, *inputs, **attributes)
    written = convert(ir.from_proto(proto))
    (problem,) = written.problems
    assert written.data is None and problem.node == "the_node" and problem.operator == op
    assert why in problem.why and problem.fix
