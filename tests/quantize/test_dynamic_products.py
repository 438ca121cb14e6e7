"""Dynamic int8 of MatMul and Gemm: the arithmetic against ONNX's reference operators, and what onnxruntime fuses."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgec.data import Dataset
from edgec.data.metrics import ratio_db
from edgec.errors import UnsupportedError, UsageError
from edgec.quantize.dynamic import quantize_dynamic
from edgec.quantize.session import Session

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def types(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


def optimized(model: ir.Model) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimized.onnx"
        Session(model, threads=1, save_optimized=path)
        return types(ir.load(path))


def by_hand(x: np.ndarray, w: np.ndarray, *, limit: int = 127, per_channel: bool = True) -> np.ndarray:
    """DynamicQuantizeLinear and MatMulInteger as the operators' specifications say, float32."""
    low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
    scale = np.float32((high - low) / np.float32(255))
    zero = np.clip(np.rint(np.float32(0) - low / scale), 0, 255)
    q = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64) - int(zero)
    top = np.abs(w).max(0) if per_channel else np.abs(w).max()
    s = (top.astype(np.float64) / limit).astype(np.float32)
    s = np.where(s > 0, s, np.float32(1))
    integers = np.clip(np.rint(w / s), -limit, limit).astype(np.int64)
    return (q @ integers).astype(np.float32) * (scale * s)


@settings(max_examples=40)
@given(
    st.integers(1, 5), st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31), st.booleans(),
    st.sampled_from([7, 8]), st.sampled_from([1e-3, 1.0, 1e4]),
)  # fmt: skip
def test_the_numbers_are_those_of_the_specification(
    build, rows: int, features: int, results: int, seed: int, per_channel: bool, bits: int, size: float
) -> None:
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((features, results)).astype(np.float32)
    x = (rng.standard_normal((rows, features)) * size).astype(np.float32)
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [rows, features]}, ["y"], {"w": w})
    made = quantize_dynamic(model, arch="", per_channel=per_channel, weight_bits=bits).model
    got = Session(made, optimize=False).run({"x": x})[0]
    reference = ReferenceEvaluator(ir.to_proto(made)).run(None, {"x": x})[0]
    np.testing.assert_array_equal(got, reference)
    np.testing.assert_array_equal(got, by_hand(x, w, limit=2 ** (bits - 1) - 1, per_channel=per_channel))


@pytest.mark.parametrize(
    ("attributes", "c"),
    [
        ({}, None), ({"alpha": 0.5, "beta": 3.0}, normal(6)), ({"transB": 1}, normal(1, 6)),
        ({"transB": 1, "beta": 0.25}, normal(4, 1)), ({}, np.float32(2.0)),
    ],
)  # fmt: skip
def test_gemm_keeps_its_factors_and_bias(build, attributes: dict, c: np.ndarray | None) -> None:
    w = normal(6, 32) if "transB" in attributes else normal(32, 6)
    constants = {"w": w} if c is None else {"w": w, "c": c}
    model = build([("Gemm", ["x", *constants], ["y"], attributes)], {"x": [4, 32]}, ["y"], constants)
    made = quantize_dynamic(model, arch="").model
    feed = {"x": normal(4, 32)}
    expected, got = Session(model).run(feed)[0], Session(made).run(feed)[0]
    assert ratio_db(float((expected**2).sum()), float(((expected - got) ** 2).sum())) > 30
    assert "Gemm" not in types(made) and made.graph.outputs[0].name == "y"


def test_onnxruntime_fuses_all_of_it(build) -> None:
    constants = {"w": normal(64, 48), "v": normal(64, 48), "u": normal(48, 32), "b": normal(32)}
    nodes = [
        ("MatMul", ["x", "w"], ["h"]), ("MatMul", ["x", "v"], ["g"]), ("Mul", ["h", "g"], ["m"]),
        ("MatMul", ["m", "u"], ["o"]), ("Add", ["o", "b"], ["y"]),
    ]  # fmt: skip
    model = build(nodes, {"x": [2, 16, 64]}, ["y"], constants)
    made = quantize_dynamic(model, arch="").model
    assert types(made)["DynamicQuantizeLinear"] == 2  # one serves both products of x
    counts = optimized(made)
    assert counts["MatMulIntegerToFloat"] == 2 and counts["DynamicQuantizeMatMul"] == 1
    assert counts["Add"] == counts["MatMulInteger"] == counts["Cast"] == 0


def test_seven_bits_stay_in_63(build) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [2, 64]}, ["y"], {"w": normal(64, 8) * 100})
    made = quantize_dynamic(model, arch="", weight_bits=7).model
    arrays = [v.const_value.numpy() for v in made.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    assert len(arrays) == 1 and np.abs(arrays[0].astype(int)).max() == 63


def test_what_stays_float_says_why(build) -> None:
    nodes = [
        ("MatMul", ["x", "x2"], ["a"], {}, "two"), ("MatMul", ["w", "a"], ["b"], {}, "constant_first"),
        ("MatMul", ["b", "w3"], ["y"], {}, "layer"), ("MatMul", ["y", "nan"], ["z"], {}, "undefined"),
    ]  # fmt: skip
    constants = {"w": normal(8, 8), "w3": normal(8, 8), "nan": np.full((8, 8), np.nan, np.float32)}
    model = build(nodes, {"x": [8, 8], "x2": [8, 8]}, ["z"], constants)
    result = quantize_dynamic(model, arch="", exclude=["nothing"][:0])
    assert [layer.name for layer in result.layers if layer.integer] == ["layer"]
    assert all(row.get("why") for row in result.report()["layers"] if row["precision"] == "float32")
    excluded = quantize_dynamic(
        build(nodes[:3], {"x": [8, 8], "x2": [8, 8]}, ["y"], {k: constants[k] for k in ("w", "w3")}),
        arch="",
        exclude=["two"],
    )
    assert next(layer.result for layer in excluded.layers if layer.name == "two") == "excluded"


def test_small_layers_stay_float_where_costs_are_known(build) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [1, 16]}, ["y"], {"w": normal(16, 16)})
    with pytest.raises(UnsupportedError, match="dynamically"):
        quantize_dynamic(model, arch="x86_64")
    assert types(quantize_dynamic(model, arch="aarch64").model)["MatMulInteger"] == 1


def test_wrong_asks_are_refused(build) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [1, 16]}, ["y"], {"w": normal(16, 16)})
    with pytest.raises(UsageError, match="nothing to exclude"):
        quantize_dynamic(model, exclude=["no such node"])
    with pytest.raises(UsageError, match="bits"):
        quantize_dynamic(model, weight_bits=4)
    conv = build([("Relu", ["x"], ["y"])], {"x": [1, 16]}, ["y"], {})
    with pytest.raises(UnsupportedError):
        quantize_dynamic(conv)


@pytest.mark.parametrize("fill", [0.0, 1e-30, 1e30])
def test_constant_and_extreme_inputs_give_finite_results(build, fill: float) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [2, 32]}, ["y"], {"w": normal(32, 8)})
    made = quantize_dynamic(model, arch="").model
    assert np.isfinite(Session(made).run({"x": np.full((2, 32), fill, np.float32)})[0]).all()


def test_data_smooths_outliers_and_embeddings_become_int8(build) -> None:
    gamma = np.ones(64, np.float32)
    gamma[5] = 40
    matrix = normal(64, 64)
    matrix[5] /= 40
    nodes = [
        ("Gather", ["table", "ids"], ["e"]), ("LayerNormalization", ["e", "gamma", "beta"], ["n"]),
        ("MatMul", ["n", "w"], ["y"]),
    ]  # fmt: skip
    constants = {"table": normal(500, 64), "gamma": gamma, "beta": np.zeros(64, np.float32), "w": matrix}
    model = build(nodes, {"ids": [1, 20]}, ["y"], constants, types={"ids": 7})
    rng = np.random.default_rng(0)
    feeds = [{"ids": rng.integers(0, 500, (1, 20))} for _ in range(16)]
    data = Dataset.of(feeds, model.graph.inputs)
    plain, helped = quantize_dynamic(model, arch=""), quantize_dynamic(model, arch="", data=data)
    assert helped.embeddings == {"table": next(iter(plain.embeddings.values()))}
    assert [s.kept for s in helped.stages] == [True] and helped.report()["smoothing"]
    reference = Session(model)
    noise = []
    for made in (plain.model, helped.model):
        session = Session(made)
        unseen = [{"ids": rng.integers(0, 500, (1, 20))} for _ in range(8)]
        noise.append(sum(float(((reference.run(f)[0] - session.run(f)[0]) ** 2).sum()) for f in unseen))
    assert noise[1] < noise[0] / 4


def test_it_is_deterministic_and_leaves_the_model_alone(build) -> None:
    model = build([("MatMul", ["x", "w"], ["y"])], {"x": [4, 64]}, ["y"], {"w": normal(64, 64)})
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    first, second = (
        ir.to_proto(quantize_dynamic(model, arch="").model).SerializeToString(deterministic=True) for _ in "12"
    )
    assert first == second and ir.to_proto(model).SerializeToString(deterministic=True) == before
