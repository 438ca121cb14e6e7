"""Group arithmetic bit for bit as ONNX defines it; packing as MatMulNBits reads it; scales never worse than min-max."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.quantize.session import Session
from edgec.quantize.weights.forms import data_type, pack_nbits
from edgec.quantize.weights.gptq import refit_scales, round_in_turn
from edgec.quantize.weights.groups import Format, Grouped, blocks, quantize, usable
from edgec.quantize.weights.rows import pack
from edgec.quantize.weights.scales import best, minmax, nearest

FORMATS = st.builds(
    Format,
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([0, 16, 32]),
    symmetric=st.booleans(),
)


def weights(rows: int, features: int, seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_t(3, (rows, features)) * scale).astype(np.float32)


def dequantize_model(made: Grouped, features: int) -> ir.Model:
    """Zeros plus DequantizeLinear of the integers, blocks along axis 1."""
    kind = int(data_type(made))
    by_row = made.scale.shape[1] == 1
    scale, zero = (made.scale[:, 0], made.zero[:, 0]) if by_row else (made.scale, made.zero)
    attributes = {"axis": 0} if by_row else {"axis": 1, "block_size": made.format.width(features)}
    constants = [
        helper.make_tensor("q", kind, made.integers.shape, made.integers.ravel().tolist()),
        numpy_helper.from_array(scale, "s"),
        helper.make_tensor("z", kind, zero.shape, zero.ravel().tolist()),
    ]
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], **attributes),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(made.integers.shape))],
        constants,
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


@settings(max_examples=40)
@given(format=FORMATS, features=st.sampled_from([16, 48, 64, 100]), seed=st.integers(0, 99), power=st.integers(-30, 30))
def test_dequantized_bit_for_bit_as_onnx_and_onnxruntime(format, features, seed, power):
    made = nearest(weights(6, features, seed, 2.0**power), format)
    model = dequantize_model(made, features)
    feed = {"x": np.zeros(1, np.float32)}
    ours = made.dequantized() + np.float32(0)
    np.testing.assert_array_equal(ours, Session(model, optimize=False).run(feed)[0])
    if not format.group or features % format.group == 0:  # the reference knows no short block
        np.testing.assert_array_equal(ours, ReferenceEvaluator(ir.to_proto(model)).run(None, feed)[0])


@settings(max_examples=30)
@given(format=FORMATS, seed=st.integers(0, 99))
def test_rounding_bit_for_bit_as_quantize_linear(format, seed):
    weight = weights(5, 64, seed)
    scale, zero = minmax(weight, format)
    made = quantize(weight, scale, zero, format)
    kind = int(data_type(made))
    by_row = scale.shape[1] == 1
    zeros = helper.make_tensor("z", kind, zero[:, 0].shape if by_row else zero.shape, zero.ravel().tolist())
    attributes = {"axis": 0} if by_row else {"axis": 1, "block_size": format.group}
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"], **attributes),
        helper.make_node("Cast", ["q"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 64])],
        [numpy_helper.from_array(scale[:, 0] if by_row else scale, "s"), zeros],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    expected = ReferenceEvaluator(proto).run(None, {"w": weight})[0]
    np.testing.assert_array_equal(made.integers.astype(np.float32), expected)


@settings(max_examples=30)
@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([16, 32, 64]),
    symmetric=st.booleans(),
    features=st.sampled_from([64, 128, 100]),
    seed=st.integers(0, 99),
)
def test_packing_is_what_matmulnbits_reads(bits, group, symmetric, features, seed):
    made = nearest(weights(8, features, seed), Format(bits, group, symmetric))
    packed, scale, zero = pack_nbits(made)
    constants = {"b": packed, "s": scale} | ({} if zero is None else {"z": zero})
    node = helper.make_node(
        "MatMulNBits",
        ["x", *constants],
        ["y"],
        domain="com.microsoft",
        K=features,
        N=8,
        bits=bits,
        block_size=group,
        accuracy_level=1,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [features, features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [features, 8])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    # The identity times the weight is the weight, with no rounding of sums in between.
    got = Session(model).run({"x": np.eye(features, dtype=np.float32)})[0]
    np.testing.assert_allclose(got, made.dequantized().T, rtol=1e-6, atol=1e-7 * float(np.abs(got).max()))


@settings(max_examples=40)
@given(format=FORMATS, seed=st.integers(0, 99), weighted=st.booleans())
def test_best_scales_never_lose_to_minmax(format, seed, weighted):
    weight = weights(7, 70, seed)
    importance = np.random.default_rng(seed).random(70).astype(np.float32) if weighted else None
    counts = np.ones(70) if importance is None else importance

    def error(made: Grouped) -> np.ndarray:
        return (np.square(made.dequantized().astype(np.float64) - weight) * counts).sum(1)

    plain, ours = quantize(weight, *minmax(weight, format), format), nearest(weight, format, importance)
    assert (error(ours) <= error(plain) * (1 + 1e-6)).all()


@pytest.mark.parametrize("format", [Format(4, 16), Format(8), Format(4, 16, False), Format(8, 16, False)])
@pytest.mark.parametrize("fill", [0.0, 1.0, -3e38, 3e38, 1e-44])
def test_constant_tiny_and_huge_groups_stay_finite(format, fill):
    weight = np.full((2, 32), fill, np.float32)
    weight[1, 0] = 1.0
    made = nearest(weight, format)
    assert (made.scale > 0).all() and np.isfinite(made.scale).all()
    assert np.isfinite(made.dequantized()).all()
    if fill in (0.0, 1.0):
        np.testing.assert_allclose(made.dequantized()[0], weight[0], rtol=1e-6)


def test_zero_is_exact_in_every_format():
    weight = weights(4, 64, 1) + 5  # all but one far from zero
    weight[:, 7] = 0
    for format in (Format(4, 32, False), Format(8, 0, False), Format(4, 32), Format(8)):
        assert (nearest(weight, format).dequantized()[:, 7] == 0).all()


def test_half_scales_are_float16():
    scale, _ = best(weights(4, 64, 1, 1e-6), Format(4, 16), half_scales=True)
    np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))
    assert (scale > 0).all()


def test_blocks_fill_the_short_last_group():
    made = blocks(np.arange(10, dtype=np.float32).reshape(2, 5), Format(4, 4))
    np.testing.assert_array_equal(made[1], [[5, 6, 7, 8], [9, 0, 0, 0]])


def test_usable_scales():
    np.testing.assert_array_equal(usable(np.array([0.0, 2.0])), np.array([1, 2], np.float32))
    assert usable(np.array([1e-45]))[0] == np.finfo(np.float32).tiny


@given(bits=st.sampled_from([1, 2, 4]), seed=st.integers(0, 9))
@settings(max_examples=20)
def test_packed_bits_are_all_there(bits, seed):
    values = np.random.default_rng(seed).integers(0, 2**bits, (3, 16)).astype(np.int16)
    packed = pack(values, bits)
    assert packed.shape == (3, 16 * bits // 8) and packed.dtype == np.uint8
    left, shift = packed.astype(np.int16), 4
    while shift >= bits:
        left = np.concatenate([left & (2**shift - 1), left >> shift], -1)
        shift //= 2
    np.testing.assert_array_equal(left, values)


def correlated(features: int, positions: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((positions, 12)) @ rng.standard_normal((12, features))) + 0.1 * rng.standard_normal(
        (positions, features)
    )


@pytest.mark.parametrize("format", [Format(4, 16, False), Format(4, 0), Format(8, 32)])
def test_gptq_keeps_the_result_better_than_nearest(format):
    x, weight = correlated(64, 500), weights(10, 64, 3)
    xx, y = x.T @ x, x @ weight.T.astype(np.float64)

    def error(made: Grouped) -> float:
        return float(np.square(x @ made.dequantized().T.astype(np.float64) - y).sum())

    plain = nearest(weight, format)
    turned = round_in_turn(weight.astype(np.float64), plain.scale, plain.zero, format, xx)
    assert error(turned) < 0.6 * error(plain)
    refitted = refit_scales(turned, xx, y.T @ x)
    assert error(refitted) < error(turned)
    np.testing.assert_array_equal(refitted.integers, turned.integers)


def test_gptq_with_a_dead_feature_rounds_it_to_nearest():
    x, weight = correlated(32, 100), weights(4, 32, 5)
    x[:, 3] = 0
    format = Format(4, 16, False)
    plain = nearest(weight, format)
    turned = round_in_turn(weight.astype(np.float64), plain.scale, plain.zero, format, x.T @ x)
    np.testing.assert_array_equal(turned.integers[:, 3], plain.integers[:, 3])
