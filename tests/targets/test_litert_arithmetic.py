"""Arithmetic and reductions by models of one node: LiteRT's answer beside ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")

from tests.targets.one_node import Fed, check, i64, model, normal, x

# fmt: off
UNARY = ["Abs", "Ceil", "Cos", "Exp", "Floor", "HardSwish", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Tanh",
         "Erf",
         "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "HardSigmoid", "LeakyRelu",
         "ThresholdedRelu", "Gelu",
         "Softmax", "LogSoftmax", "Identity", "GlobalAveragePool", "GlobalMaxPool", "IsNaN", "Reciprocal"]
# fmt: on


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 7)], ids=str)
def test_one_input(op: str, shape: tuple[int, ...]) -> None:
    if op.startswith("Global") and len(shape) < 3:
        shape = (2, 3, 6)
    check(*model(op, x(*shape)))


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_one_positive_input(op: str) -> None:
    check(*model(op, Fed(np.abs(normal(2, 9)) + 0.1)))


def test_erf_near_zero_and_far() -> None:
    values = np.concatenate([[0.0, -0.0], np.logspace(-9, 1, 400), -np.logspace(-9, 1, 400)]).astype(np.float32)
    check(*model("Erf", Fed(values)), atol=3e-7)


BINARY = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "PRelu",
]
SHAPES = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((1, 3, 4, 5), (5,)),
    ((3, 4), ()),
    ((2, 1, 4), (2, 3, 1)),
]


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("constant", [False, True])
def test_two_inputs(op: str, shapes: tuple[tuple[int, ...], ...], constant: bool) -> None:
    if op == "PRelu" and shapes[1] == (2, 3, 1):
        pytest.skip("the slope of PRelu is broadcast one way only")
    b = normal(*shapes[1]) + np.float32(3.0)
    check(*model(op, x(*shapes[0]), b if constant else Fed(b)))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([1, 2, 3]), min_size=0, max_size=5), st.data())
def test_broadcasting(dims: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(dims)))
    other = [data.draw(st.sampled_from([1, d])) for d in dims[len(dims) - kept :]]
    check(*model("Add", x(*dims), x(*other)))
    check(*model("Sub", x(*other), x(*dims)))


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum"]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keep"), [([1], 1), ([2, 3], 0), ([-1], 1), (None, 0), ([0, 2], 1)])
def test_reductions(op: str, axes: Any, keep: int) -> None:
    data = Fed(np.abs(normal(2, 3, 4, 5)) + 0.5) if op == "LogSum" else x(2, 3, 4, 5)
    check(*model(f"Reduce{op}", data, None if axes is None else i64(*axes), keepdims=keep), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_reductions_of_booleans(op: str) -> None:
    check(*model(op, Fed(normal(3, 4) > 0), i64(1)))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_along_any_axis(op: str, axis: int) -> None:
    check(*model(op, x(2, 3, 4, 5), axis=axis))


def test_integers_of_64_bits() -> None:
    for op in ("Add", "Sub", "Mul", "Max"):
        check(*model(op, Fed(i64(1, -2, 3)), Fed(i64(5, 6, -7))))


def test_a_slope_for_each_channel_as_opset_6_had_it() -> None:
    check(*model("PRelu", x(2, 3, 4, 5), normal(3), opset=6))


def test_a_chain_of_selections_keeps_types() -> None:
    check(*model("Equal", Fed(np.array([1, 2, 3], np.int8)), Fed(np.array([1, 5, 3], np.int8))))
