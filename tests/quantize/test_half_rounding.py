"""16-bit floats: rounding held against the definition, numpy and ONNX's Cast; weights whose errors cancel."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.reference import ReferenceEvaluator

from edgec.errors import UsageError
from edgec.quantize.half import KINDS, rounded
from edgec.quantize.half.diffuse import diffused, in_16_bits
from edgec.quantize.half.kinds import kind_of, refusal

COMMON = settings(max_examples=60)
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
PLACES = {"float16": (11, -14, 15), "bfloat16": (8, -126, 127)}  # significant bits, exponents of normal values


def by_definition(x: float, bits: int, least: int, most: int) -> float:
    """Nearest value of the format, ties to even, in exact arithmetic (IEEE 754-2019, 4.3.1 and 7.4)."""
    value = abs(Fraction(x))
    exponent = least
    while exponent < most and value >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - bits + 1)
    steps = round(value / step)  # Python rounds fractions half to even
    result = steps * step
    largest = (2 - Fraction(2) ** (1 - bits)) * Fraction(2) ** most
    magnitude = float(result) if result <= largest else float("inf")
    return float(np.copysign(magnitude, x))


@pytest.mark.parametrize("name", list(KINDS))
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
@COMMON
def test_one_value_is_rounded_as_defined(name, x):
    got = float(rounded(np.float32([x]), KINDS[name]).data[0])
    expected = by_definition(x, *PLACES[name])
    assert got == expected and np.signbit(got) == np.signbit(expected)


@pytest.mark.parametrize("name", list(KINDS))
@given(arrays(np.float32, 24, elements=ANY))
@COMMON
def test_it_is_onnx_cast_bit_for_bit(name, x):
    node = onnx.helper.make_node("Cast", ["x"], ["y"], to=int(KINDS[name].onnx))
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [info("x", 1, [24])], [info("y", int(KINDS[name].onnx), [24])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    with np.errstate(all="ignore"):
        expected = ReferenceEvaluator(model).run(None, {"x": x})[0]
    got = rounded(x, KINDS[name]).data
    real = ~np.isnan(x)
    np.testing.assert_array_equal(got.view(np.uint16)[real], expected.view(np.uint16)[real])
    assert np.isnan(got.astype(np.float32)[~real]).all()


def test_the_types_are_what_their_libraries_say():
    for kind, info in ((KINDS["float16"], np.finfo(np.float16)), (KINDS["bfloat16"], ml_dtypes.finfo("bfloat16"))):
        assert kind.largest == float(info.max) and kind.normal == float(info.smallest_normal)
        assert kind.roundoff == float(info.eps) / 2
    with pytest.raises(UsageError, match="no 16-bit float"):
        kind_of("float8")


def test_what_is_lost_is_told():
    kind = KINDS["float16"]
    r = rounded(np.float32([65519, 65520, -1e9, np.inf, np.nan, 1e-9, 0, 1]), kind)
    assert r.overflowed == 2 and r.vanished == 1
    assert "2 of its values are beyond ±65504" in refusal(r, kind)
    assert refusal(rounded(np.float32([np.inf, -np.inf, np.nan, 1]), kind), kind) == ""
    assert "too small" in refusal(rounded(np.float32([1e-7, 3e-8]), kind), kind)
    assert refusal(rounded(np.float32([1e-7, 1]), kind), kind) == ""  # next to 1 it doesn't matter
    assert refusal(rounded(np.zeros(3, np.float32), kind), kind) == ""
    assert refusal(rounded(np.zeros(0, np.float32), kind), kind) == ""
    assert refusal(rounded(np.float32([3e38, 1e-38]), KINDS["bfloat16"]), KINDS["bfloat16"]) == ""


@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(-60000, 60000, width=32)))
@COMMON
def test_the_error_is_relative_and_root_mean_square(x):
    r = rounded(x, KINDS["float16"])
    exact = x.astype(np.float64)
    error = np.linalg.norm(exact - r.data) / (np.linalg.norm(exact) or 1)
    assert r.error == pytest.approx(error, rel=1e-6, abs=1e-12)


SIZED = st.floats(-100, 100, width=32).map(lambda v: v if abs(v) > 1e-3 else 0.0)


@pytest.mark.parametrize("name", list(KINDS))
@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=SIZED))
@COMMON
def test_errors_of_a_column_cancel(name, x):
    kind = KINDS[name]
    got = diffused(x, kind).astype(np.float64)
    step = 2 * kind.roundoff * np.maximum(np.abs(x), np.abs(got))
    # Half a step of the last value, and what float32 loses when it adds the carry.
    assert (np.abs((x - got).sum(0)) <= step[-1] / 2 + len(x) * 100 * 2.0**-24).all()
    before = np.vstack([np.zeros_like(step[:1]), step[:-1]])
    assert (np.abs(x - got) <= (step + before) / 2 * (1 + 2.0**-6) + kind.normal * 2 * kind.roundoff).all()


def test_a_column_with_infinities_hands_nothing_on():
    x = np.float32([[1.0001, 1.0001], [np.inf, np.nan], [2.0001, 65504]])
    got = diffused(x, KINDS["float16"]).astype(np.float32)
    assert np.isposinf(got[1, 0]) and np.isnan(got[1, 1]) and np.isfinite(got[[0, 2]]).all()
    x = np.float32([[1024.4], [65504]])  # the carry would push it over
    assert np.isfinite(diffused(np.float32([[65504 - 15.9], [65504]]), KINDS["float16"]).astype(np.float32)).all()
    assert np.isfinite(diffused(x, KINDS["float16"]).astype(np.float32)).all()


def _weights(model, name):
    value = model.graph.initializers[name]
    return value, value.const_value.numpy()


@pytest.mark.parametrize(
    ("op", "shape", "axes", "attributes"),
    [
        ("Conv", (6, 5, 3, 3), (1, 2, 3), {}),
        ("Gemm", (7, 6), (0,), {}),
        ("Gemm", (6, 7), (1,), {"transB": 1}),
        ("MatMul", (7, 6), (0,), {}),
    ],
)
def test_sums_along_what_a_layer_adds_are_kept(build, op, shape, axes, attributes):
    w = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    x = [1, shape[1], 8, 8] if op == "Conv" else [2, 7]
    model = build([("Relu", ["x"], ["r"]), (op, ["r", "w"], ["y"], attributes)], {"x": x}, ["y"], {"w": w})
    value, array = _weights(model, "w")
    kind = KINDS["float16"]
    plain = rounded(array, kind).data.astype(np.float64)
    ours = in_16_bits(value, array, kind, "diffused").astype(np.float64)
    assert ours.shape == array.shape
    assert np.abs((array - ours).sum(axes)).max() < 1.1e-3  # half a step of a value under 4
    assert np.abs((array - plain).sum(axes)).max() > np.abs((array - ours).sum(axes)).max()
    np.testing.assert_array_equal(in_16_bits(value, array, kind, "nearest"), rounded(array, kind).data)


def test_an_embedding_and_what_reads_values_without_mean_are_rounded_to_nearest(build):
    w = np.random.default_rng(0).normal(0, 1, (8, 8)).astype(np.float32)
    model = build(
        [("Gather", ["t", "i"], ["g"]), ("MatMul", ["g", "w"], ["y"])],
        {"i": [3]},
        ["y"],
        {"t": w, "w": w},
        types={"i": onnx.TensorProto.INT64},
    )
    for name in ("t", "w"):
        value, array = _weights(model, name)
        nearest = rounded(array, KINDS["float16"]).data
        np.testing.assert_array_equal(in_16_bits(value, array, KINDS["float16"], "diffused"), nearest)
    assert isinstance(model, ir.Model)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e4])
def test_a_large_tensor_is_looked_at_in_parts(scale):
    x = (np.random.default_rng(0).normal(0, 1, 600_000) * np.geomspace(1, 1000, 600_000) * scale / 1000).astype(
        np.float32
    )
    r = rounded(x, KINDS["float16"])
    exact, back = x.astype(np.float64), r.data.astype(np.float64)
    stays = np.isfinite(back)
    error = np.linalg.norm((exact - back)[stays]) / np.linalg.norm(exact[stays])
    assert r.error == pytest.approx(error, rel=1e-9) and r.overflowed == (~stays).sum()
    assert r.vanished == ((back == 0) & (exact != 0)).sum()
