"""SmoothQuant on transformer blocks: the float model stays, int8 gains, what can not be touched is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.quantize import quantize_with_data
from edgec.quantize.assign import assign
from edgec.quantize.corrections.smooth import smooth
from edgec.quantize.corrections.smooth_search import Sample, choose
from edgec.quantize.scheme import Scheme
from edgec.quantize.session import Session

D, ROWS = 32, 12
RNG = np.random.default_rng(5)


def weight(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


GAMMA = np.ones(D, np.float32)
GAMMA[[3, 17]] = 30  # the outlier channels that transformers have
BETA = (RNG.standard_normal(D) * 0.1).astype(np.float32)
WQ, WK, WV, WO, W1, W2 = weight(D, D), weight(D, D), weight(D, D), weight(D, D), weight(D, 4 * D), weight(4 * D, D)
W1[[3, 17]] /= 30
WQ[[3, 17]] /= 30
BIAS1, BIAS2 = weight(4 * D), weight(D)
MASK = np.triu(np.full((ROWS, ROWS), -1e4, np.float32), 1)


POST_NORM = (
    [
        ("LayerNormalization", ["x", "g", "b"], ["n"]),
        ("MatMul", ["n", "w1"], ["h"]),
        ("Add", ["h", "b1"], ["hb"]),
        ("Gelu", ["hb"], ["a"]),
        ("MatMul", ["a", "w2"], ["f"]),
        ("Add", ["f", "b2"], ["fb"]),
        ("Add", ["fb", "n"], ["r"]),
        ("LayerNormalization", ["r", "g2", "b"], ["y"]),
    ],
    {"g": GAMMA, "g2": np.ones(D, np.float32), "b": BETA, "w1": W1, "b1": BIAS1, "w2": W2, "b2": BIAS2},
)
PRE_NORM = (
    [
        ("LayerNormalization", ["x", "g", "b"], ["n"]),
        ("MatMul", ["n", "w1"], ["h"]),
        ("Add", ["h", "b1"], ["hb"]),
        ("Relu", ["hb"], ["a"]),
        ("MatMul", ["a", "w2"], ["f"]),
        ("Add", ["f", "x"], ["y"]),
    ],
    {"g": GAMMA, "b": BETA, "w1": W1, "b1": BIAS1, "w2": W2},
)
GEMM = (
    [
        ("Reshape", ["x", "rows"], ["m"]),
        ("LayerNormalization", ["m", "g", "b"], ["n"]),
        ("Gemm", ["n", "w1t", "b1"], ["h"], {"transB": 1, "alpha": 0.5}),
        ("Relu", ["h"], ["a"]),
        ("Gemm", ["a", "w2", "b2"], ["y"]),
    ],
    {
        "rows": np.array([-1, D]), "g": GAMMA, "b": BETA, "w1t": np.ascontiguousarray(W1.T), "b1": BIAS1, "w2": W2,
        "b2": BIAS2,
    },
)  # fmt: skip
DECODER = (
    [
        ("Mul", ["x", "x"], ["sq"]),
        ("ReduceMean", ["sq", "last"], ["ms"]),
        ("Add", ["ms", "eps"], ["mse"]),
        ("Sqrt", ["mse"], ["rms"]),
        ("Div", ["x", "rms"], ["u"]),
        ("Mul", ["u", "g"], ["n"]),
        *[("MatMul", ["n", f"w{k}"], [k]) for k in "qkv"],
        *[("Reshape", [k, "split"], [f"{k}s"]) for k in "qkv"],
        ("Transpose", ["qs"], ["qh"], {"perm": [0, 2, 1, 3]}),
        ("Transpose", ["ks"], ["kh"], {"perm": [0, 2, 3, 1]}),
        ("Transpose", ["vs"], ["vh"], {"perm": [0, 2, 1, 3]}),
        ("MatMul", ["qh", "kh"], ["s"]),
        ("Add", ["s", "mask"], ["sm"]),
        ("Softmax", ["sm"], ["p"]),
        ("MatMul", ["p", "vh"], ["a"]),
        ("Transpose", ["a"], ["at"], {"perm": [0, 2, 1, 3]}),
        ("Reshape", ["at", "join"], ["aj"]),
        ("MatMul", ["aj", "wo"], ["o"]),
        ("Add", ["o", "x"], ["y"]),
    ],
    {
        "last": np.array([-1]), "eps": np.float32(1e-5), "g": GAMMA, "wq": WQ, "wk": WK, "wv": WV, "wo": WO,
        "mask": MASK, "split": np.array([1, ROWS, 4, 8]), "join": np.array([1, ROWS, D]),
    },
)  # fmt: skip
SHAPES = {"post-norm": POST_NORM, "pre-norm": PRE_NORM, "Gemm": GEMM, "decoder": DECODER}


def made(build: Callable[..., ir.Model], shape: str) -> ir.Model:
    nodes, constants = SHAPES[shape]
    return build(nodes, {"x": [1, ROWS, D]}, ["y"], constants)


def sqnr(model: ir.Model, other: ir.Model, data: Dataset) -> float:
    a, b = Session(model), Session(other)
    pairs = [(a.run(f)[0].astype(np.float64), b.run(f)[0]) for f in data]
    return ratio_db(sum((x**2).sum() for x, _ in pairs), sum(((x - y) ** 2).sum() for x, y in pairs))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_float_model_stays_the_same(build, feeds, shape: str) -> None:
    model = made(build, shape)
    data = feeds(model, 6)
    result = smooth(model, list(data), assign(model))
    assert result.groups
    assert sqnr(model, result.model, data) > 90
    assert {n.name for n in model.graph if n.op_type == "MatMul"} <= {n.name or "" for n in result.model.graph} | {""}


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_gains_on_inputs_not_seen(build, feeds, shape: str) -> None:
    model = made(build, shape)
    data = feeds(model, 24)
    plain = quantize_with_data(model, data, effort="plain", arch="")
    smoothed = smooth(model, list(data)[:12], plain.assignment).model
    better = quantize_with_data(smoothed, data, effort="plain", arch="")
    unseen = feeds(model, 40)
    assert sqnr(model, better.model, unseen) > sqnr(model, plain.model, unseen) + 3


def test_pre_norm_costs_no_operator_and_post_norm_a_mul(build, feeds) -> None:
    for shape, extra in (("pre-norm", 0), ("decoder", 0), ("post-norm", 2)):
        model = made(build, shape)
        result = smooth(model, list(feeds(model, 6)), assign(model))
        assert len(result.model.graph) - len(model.graph) <= extra, shape
        assert any(group.absorbed for group in result.groups) == (shape != "post-norm")


def test_the_pipeline_keeps_it_and_says_so(build, feeds) -> None:
    model = made(build, "post-norm")
    result = quantize_with_data(model, feeds(model, 24), arch="")
    assert result.correction is not None and result.smoothing is not None and result.smoothing.kept
    stages = [stage.name for stage in result.correction.stages]
    assert "smoothing" in stages
    assert result.report(model)["smoothing"][0]["layers"]


def test_an_excluded_layer_and_a_tied_weight_stay_as_they_are(build, feeds) -> None:
    nodes, constants = PRE_NORM
    model = build([*nodes, ("MatMul", ["y", "w1"], ["t"])], {"x": [1, ROWS, D]}, ["y", "t"], constants)
    groups = smooth(model, list(feeds(model, 4)), assign(model)).groups
    assert all(group.value != "n" for group in groups)  # w1 is read twice
    model = made(build, "pre-norm")
    assignment = dict.fromkeys(assign(model))
    assert smooth(model, list(feeds(model, 4)), assignment).groups == ()


def test_bad_data_changes_nothing(build, feeds) -> None:
    model = made(build, "post-norm")
    nan = [{"x": np.full((1, ROWS, D), np.nan, np.float32)}]
    assert smooth(model, nan, assign(model)).model is model
    assert smooth(model, [], assign(model)).model is model
    zeros = [{"x": np.zeros((1, ROWS, D), np.float32)}]
    result = smooth(model, zeros, assign(model))
    assert sqnr(model, result.model, feeds(model, 4)) > 60


def test_no_float_operator_goes_between_integer_ones(build, feeds) -> None:
    spread = np.ones((32, 1, 1, 1), np.float32)
    spread[4] = 50
    nodes = [
        ("Conv", ["x", "k"], ["c"]), ("Relu", ["c"], ["r"]), ("GlobalAveragePool", ["r"], ["p"]),
        ("Flatten", ["p"], ["f"]), ("Gemm", ["f", "w"], ["y"]),
    ]  # fmt: skip
    constants = {"k": RNG.standard_normal((32, 3, 3, 3)).astype(np.float32) * spread, "w": weight(32, 10)}
    model = build(nodes, {"x": [1, 3, 8, 8]}, ["y"], constants)
    assert smooth(model, list(feeds(model, 6)), assign(model)).groups == ()


@pytest.mark.parametrize("symmetric", [False, True])
def test_dead_and_huge_channels_get_finite_factors(symmetric: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((64, 20)).astype(np.float32)
    rows[:, 0], rows[:, 1] = 0, rows[:, 1] * 1e6
    scheme = Scheme(activation="int8", symmetric_activation=True) if symmetric else Scheme()
    choice = choose(
        Sample(rows.min(0), rows.max(0), rows),
        np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32),
        scheme,
    )
    if choice is not None:
        assert np.isfinite(choice.scale).all() and (choice.scale > 0).all() and choice.after > choice.before


def test_the_search_finds_the_outlier() -> None:
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((256, 32)).astype(np.float32)
    rows[:, 7] *= 50
    matrix = rng.standard_normal((32, 16)).astype(np.float32)
    matrix[7] /= 50
    choice = choose(Sample(rows.min(0), rows.max(0), rows), matrix, Scheme())
    assert choice is not None and choice.scale.argmax() == 7 and choice.after > choice.before + 15
