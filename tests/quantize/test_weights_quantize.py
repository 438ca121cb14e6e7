"""Weight-only quantization of whole models: what becomes integers, in which form, and never worse than to nearest."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgec.data import Dataset
from edgec.errors import BadInputError, BudgetError, UnsupportedError, UsageError
from edgec.quantize.session import Session
from edgec.quantize.weights import quantize_weights
from edgec.quantize.weights.fit import padding


def db(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / np.square(expected.astype(np.float64) - got).sum()))


def run(model: ir.Model, feed: dict[str, np.ndarray]) -> np.ndarray:
    proto = ir.to_proto(model)
    if not any(n.domain for n in proto.graph.node):
        onnx.checker.check_model(onnx.shape_inference.infer_shapes(proto), full_check=True)
    return Session(model).run(feed)[0]


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def two_layers(build) -> ir.Model:
    """x [n, 2, 64] → MatMul, Add, Relu → to [2n, 96] → Gemm with transposed weight."""
    w1, w2 = normal(64, 96, seed=1, scale=0.1), normal(48, 96, seed=2, scale=0.1)
    nodes = [
        ("MatMul", ["x", "w1"], ["a"]),
        ("Add", ["a", "b1"], ["b"]),
        ("Relu", ["b"], ["r"]),
        ("Reshape", ["r", "flat"], ["c"]),
        ("Gemm", ["c", "w2", "b2"], ["y"], {"transB": 1}),
    ]
    constants = {"w1": w1, "b1": normal(96), "w2": w2, "b2": normal(48), "flat": np.array([-1, 96])}
    return build(nodes, {"x": ["n", 2, 64]}, ["y"], constants, infer=False)


def correlated(model: ir.Model, n: int = 16) -> Dataset:
    """Inputs that vary in few directions, as real activations do."""
    rng = np.random.default_rng(5)
    mixing = rng.standard_normal((8, 64))
    shape = (16, 2, 64) if model.graph.inputs[0].shape.rank() == 3 else (32, 64)
    made = [{"x": (rng.standard_normal((32, 8)) @ mixing).astype(np.float32).reshape(shape)} for _ in range(n)]
    return Dataset.of(made, model.graph.inputs)


@pytest.mark.parametrize("form", ["auto", "qdq", "nbits", "folded"])
@pytest.mark.parametrize(("bits", "least"), [(8, 38), (4, 17)])
def test_every_form_gives_the_same_model(build, form, bits, least):
    m = two_layers(build)
    x = {"x": normal(4, 2, 64, seed=9)}
    made = quantize_weights(m, bits=bits, form=form)
    expected = run(m, x)
    assert db(expected, run(made.model, x)) > least
    assert made.bytes_after < (0.45 if bits == 8 else 0.33) * made.bytes_before
    kinds = {n.op_type for n in made.model.graph}
    assert ("MatMulNBits" in kinds) == (form == "nbits")
    assert ("DequantizeLinear" in kinds) == (form == "qdq" or (form == "auto" and bits == 4))
    if form != "nbits":  # standard ONNX: its reference agrees with the folded form, and with qdq up to its activations
        reference = ReferenceEvaluator(ir.to_proto(made.model)).run(None, x)[0]
        assert db(reference, run(made.model, x)) > (90 if form == "folded" else 35)


def test_onnxruntime_multiplies_integers_in_qdq_and_floats_in_folded(build, tmp_path):
    m = two_layers(build)
    for form, kind in (("qdq", "MatMulNBits"), ("folded", "FusedGemm")):
        Session(quantize_weights(m, form=form).model, save_optimized=tmp_path / "o.onnx")
        kinds = [n.op_type for n in onnx.load(tmp_path / "o.onnx").graph.node]
        assert kind in kinds or (form == "folded" and "MatMul" in kinds)
        assert not {"DequantizeLinear", "Cast", "Transpose"} & set(kinds)


def test_data_helps_and_is_never_kept_where_it_does_not(build):
    m = two_layers(build)
    data = correlated(m)
    plain, fitted = quantize_weights(m, bits=4, form="folded"), quantize_weights(m, bits=4, data=data, form="folded")
    assert fitted.fitted and fitted.fitted_db > fitted.nearest_db + 3
    assert {row.fitted for row in fitted.layers} == {True} and not plain.fitted
    *_, x = correlated(m, 20)
    expected = run(m, x)
    assert db(expected, run(fitted.model, x)) > db(expected, run(plain.model, x)) + 3


def test_data_of_another_kind_than_the_held_out_is_not_believed(build):
    m = two_layers(build)
    rng = np.random.default_rng(1)
    wide, narrow = rng.standard_normal((64, 64)), np.eye(64)[:, :3] @ rng.standard_normal((3, 64))
    made = [{"x": (normal(8, 2, 64, seed=i) @ (wide if i % 4 == 3 else narrow)).astype(np.float32)} for i in range(16)]
    result = quantize_weights(m, bits=4, data=Dataset.of(made, m.graph.inputs), form="folded")
    assert not result.fitted or result.fitted_db > result.nearest_db


def test_deterministic(build):
    m = two_layers(build)
    first, second = (quantize_weights(m, bits=4, data=correlated(m)) for _ in range(2))
    assert ir.to_proto(first.model).SerializeToString() == ir.to_proto(second.model).SerializeToString()
    assert first.report() == second.report()


def test_the_float_model_is_not_changed(build):
    m = two_layers(build)
    before = ir.to_proto(m).SerializeToString()
    quantize_weights(m, bits=4, data=correlated(m), max_bytes=12_000)
    assert ir.to_proto(m).SerializeToString() == before


def test_one_sample_rounds_to_nearest(build):
    m = two_layers(build)
    made = quantize_weights(m, data=correlated(m, 1))
    assert not made.fitted and made.sqnr_db is None


def test_bad_data_says_so(build):
    m = two_layers(build)
    bad = Dataset.of([{"x": np.full((2, 2, 64), np.nan, np.float32)}], m.graph.inputs)
    with pytest.raises(BadInputError):
        quantize_weights(m, data=bad)


def test_constant_inputs_are_survived(build):
    m = two_layers(build)
    same = [{"x": np.zeros((2, 2, 64), np.float32)} for _ in range(8)]
    made = quantize_weights(m, bits=4, data=Dataset.of(same, m.graph.inputs))
    assert np.isfinite(run(made.model, {"x": normal(2, 2, 64)})).all()


def test_sizes_are_met_and_sensitive_layers_get_more_bits(build):
    nodes = [
        ("MatMul", ["x", "w1"], ["a"]),
        ("MatMul", ["x", "w2"], ["b"]),
        ("Mul", ["b", "small"], ["c"]),
        ("Add", ["a", "c"], ["y"]),
    ]
    constants = {"w1": normal(64, 128, seed=1), "w2": normal(64, 128, seed=2), "small": np.float32(1e-3).reshape(1)}
    m = build(nodes, {"x": ["n", 64]}, ["y"], constants, infer=False)
    data = correlated(m)
    made = quantize_weights(m, bits=4, data=data, max_bytes=17_000)
    assert made.bytes_after <= 17_000
    formats = {row.name: row.format.bits for row in made.layers}
    assert formats == {"w1": 8, "w2": 4}
    noises = {row.name: row.noise for row in made.layers}
    assert noises["w1"] > 1000 * noises["w2"]
    with pytest.raises(BudgetError):
        quantize_weights(m, bits=4, max_bytes=4_000)
    assert quantize_weights(m, bits=8, max_bytes=60_000).bytes_after <= 60_000


def test_convolutions_recurrences_and_stacks_are_folded(build, tmp_path):
    nodes = [
        ("Conv", ["x", "wc"], ["a"], {"pads": [1, 1, 1, 1]}),
        ("ConvTranspose", ["a", "wt"], ["b"]),
        ("ReduceMean", ["b", "axes"], ["c"], {"keepdims": 0}),
        ("MatMul", ["c", "stack"], ["d"]),
        ("LSTM", ["d", "wl", "rl"], ["e"], {"hidden_size": 24}),
        ("Identity", ["e"], ["y"]),
    ]
    constants = {
        "wc": normal(24, 12, 3, 3, scale=0.1),
        "wt": normal(24, 30, 2, 2, seed=1, scale=0.1),
        "axes": np.array([3], np.int64),
        "stack": normal(2, 9, 200, seed=2, scale=0.1),
        "wl": normal(1, 96, 200, seed=3, scale=0.1),
        "rl": normal(1, 96, 24, seed=4, scale=0.1),
    }
    m = build(nodes, {"x": [2, 12, 8, 8]}, ["y"], constants, infer=False)
    m.graph.outputs[0].shape = None
    x = {"x": normal(2, 12, 8, 8, seed=5)}
    for bits, least in ((8, 32), (4, 16)):
        made = quantize_weights(m, bits=bits)
        assert {row.name for row in made.layers} == {"wc", "wt", "stack", "wl", "rl"}
        assert db(run(m, x), run(made.model, x)) > least
    Session(made.model, save_optimized=tmp_path / "o.onnx")
    kinds = {n.op_type for n in onnx.load(tmp_path / "o.onnx").graph.node}
    assert not {"DequantizeLinear", "Cast", "Mul", "Transpose", "Slice"} & kinds


def test_grouped_convolution_is_fitted(build):
    nodes = [("Conv", ["x", "w", "b"], ["y"], {"group": 2, "pads": [1, 1, 1, 1]})]
    m = build(nodes, {"x": [1, 16, 9, 9]}, ["y"], {"w": normal(32, 8, 3, 3), "b": normal(32)}, infer=False)
    m.graph.outputs[0].shape = None
    base = normal(1, 16, 9, 9, seed=3)
    smooth = [{"x": (base + 0.2 * normal(1, 16, 9, 9, seed=i)).astype(np.float32)} for i in range(12)]
    made = quantize_weights(m, bits=4, data=Dataset.of(smooth, m.graph.inputs), max_bytes=2900)
    assert made.layers[0].format.bits == 4
    assert made.fitted and made.fitted_db > made.nearest_db + 1


def test_weights_behind_transpose_cast_and_identity(build):
    nodes = [
        ("Cast", ["w"], ["f"], {"to": TensorProto.FLOAT}),
        ("Transpose", ["f"], ["t"], {"perm": [1, 0]}),
        ("Identity", ["t"], ["i"]),
        ("MatMul", ["x", "i"], ["y"]),
    ]
    m = build(nodes, {"x": ["n", 64]}, ["y"], {"w": normal(48, 64).astype(np.float16)}, infer=False)
    made = quantize_weights(m, form="qdq")
    assert [n.op_type for n in made.model.graph] == ["DequantizeLinear", "MatMul"]
    x = {"x": normal(3, 64, seed=2)}
    assert db(run(m, x), run(made.model, x)) > 35


def test_a_weight_that_two_layers_share_is_stored_once(build):
    nodes = [("MatMul", ["x", "w"], ["a"]), ("Relu", ["a"], ["b"]), ("MatMul", ["b", "w"], ["y"])]
    m = build(nodes, {"x": ["n", 64]}, ["y"], {"w": normal(64, 64)}, infer=False)
    x = {"x": normal(3, 64, seed=2)}
    for form in ("qdq", "folded", "nbits"):
        made = quantize_weights(m, data=correlated(m), form=form)
        assert made.bytes_after < 64 * 64 + 4 * 64 + 1500
        assert db(run(m, x), run(made.model, x)) > 33


def test_a_tied_embedding_is_stored_once(build):
    nodes = [
        ("Gather", ["table", "ids"], ["a"]),
        ("MatMul", ["a", "w"], ["b"]),
        ("Transpose", ["table"], ["t"], {"perm": [1, 0]}),
        ("MatMul", ["b", "t"], ["y"]),
    ]
    constants = {"table": normal(500, 32), "w": normal(32, 32, seed=1)}
    for bits in (8, 4):
        m = build(nodes, {"ids": [5]}, ["y"], constants, infer=False, types={"ids": TensorProto.INT64})
        m.graph.outputs[0].shape = None
        made = quantize_weights(m, bits=bits)
        assert {row.name: row.format.bits for row in made.layers} == {"table": 8}
        ids = {"ids": np.arange(5)}
        assert db(run(m, ids), run(made.model, ids)) > 33


def test_float16_models_stay_float16(build):
    nodes = [("MatMul", ["x", "w"], ["y"])]
    w = (normal(64, 48) * 1e-3).astype(np.float16)
    types = {"x": TensorProto.FLOAT16, "y": TensorProto.FLOAT16}
    m = build(nodes, {"x": ["n", 64]}, ["y"], {"w": w}, infer=False, types=types)
    made = quantize_weights(m)
    x = {"x": normal(3, 64).astype(np.float16)}
    got = run(made.model, x)
    assert got.dtype == np.float16
    assert db(run(m, x).astype(np.float64), got.astype(np.float64)) > 35


def test_what_stays_float_and_why(build):
    bad = normal(64, 64)
    bad[0, 0] = np.inf
    nodes = [
        ("MatMul", ["x", "good"], ["a"]),
        ("MatMul", ["a", "bad"], ["b"]),
        ("MatMul", ["b", "tiny"], ["c"], {}, "keep"),
        ("MatMul", ["c", "mine"], ["d"], {}, "mine_node"),
        ("MatMul", ["d", "read"], ["e"]),
        ("Add", ["e", "read"], ["y"]),
    ]
    constants = {
        "good": normal(64, 64),
        "bad": bad,
        "tiny": normal(64, 8),
        "mine": normal(8, 300),
        "read": normal(300, 300, seed=3),
    }
    m = build(nodes, {"x": [300, 64]}, ["y"], constants, infer=False)
    m.graph.outputs[0].shape = None
    made = quantize_weights(m, exclude=["mine_node"])
    assert [row.name for row in made.layers] == ["good"]
    assert made.skipped == {
        "bad": "it holds NaN or infinity",
        "tiny": "small (512 elements)",
        "mine": "excluded",
        "read": "other nodes read it too",
    }


def test_a_weight_read_in_a_body_stays_float(build):
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        ("If", ["yes"], ["a"], {"then_branch": body, "else_branch": body}),
        ("MatMul", ["x", "w"], ["b"]),
        ("Add", ["a", "b"], ["y"]),
    ]
    constants = {"w": normal(64, 64), "yes": np.array(True)}
    m = build(nodes, {"x": ["n", 64]}, ["y"], constants, infer=False)
    m.graph.outputs[0].shape = None
    with pytest.raises(UnsupportedError) as problem:
        quantize_weights(m)
    assert "Loop" in problem.value.why


def test_arguments_that_make_no_sense(build):
    m = two_layers(build)
    for wrong in ({"bits": 3}, {"group": 24}, {"group": 8}, {"form": "best"}, {"exclude": ["nowhere"]}):
        with pytest.raises(UsageError):
            quantize_weights(m, **wrong)
    old = build([("MatMul", ["x", "w"], ["y"])], {"x": ["n", 64]}, ["y"], {"w": normal(64, 64)}, opset=17, infer=False)
    with pytest.raises(UnsupportedError):
        quantize_weights(old)


def test_padding_is_found_where_it_is():
    ids = np.ones((1, 6), np.int64)
    flags = np.array([[1, 1, 1, 0, 0, 0]])
    found = padding({"ids": ids, "attention_mask": flags})
    assert found is not None and found.sum() == 3
    assert padding({"ids": ids, "attention_mask": ids}) is None
    assert padding({"ids": ids, "image": flags}) is None
    assert padding({"attention_mask": flags * 2}) is None


def test_an_output_that_is_a_product_keeps_its_name(build):
    m = build([("MatMul", ["x", "w"], ["y"])], {"x": ["n", 64]}, ["y"], {"w": normal(64, 64)}, infer=False)
    for form in ("qdq", "nbits", "folded"):
        made = quantize_weights(m, form=form)
        assert [o.name for o in made.model.graph.outputs] == ["y"]
        run(made.model, {"x": normal(2, 64)})


def test_notes_of_the_exporter_are_left_out(build):
    proto = ir.to_proto(two_layers(build))
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "stack_trace", "x" * 9999
    made = quantize_weights(ir.from_proto(proto))
    assert b"stack_trace" not in ir.to_proto(made.model).SerializeToString()


def test_minilm_to_nearest(zoo):
    m = ir.load(zoo("minilm_sts") / "model.onnx")
    from onnx import version_converter

    m = ir.from_proto(version_converter.convert_version(ir.to_proto(m), 21))
    made = quantize_weights(m)
    assert made.bytes_after < 23_600_000
    ids = np.zeros((1, 64), np.int64)
    ids[0, :6] = [101, 2023, 2003, 1037, 3231, 102]
    feed = {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64)}
    assert db(Session(m).run(feed)[0], Session(made.model).run(feed)[0]) > 28


def test_numpy_helper_reads_the_int4_that_is_written(build):
    made = quantize_weights(two_layers(build), bits=4)
    stored = {t.name: t for t in ir.to_proto(made.model).graph.initializer}
    tensor = stored["w1_uint4"]
    assert tensor.data_type == TensorProto.UINT4
    assert list(numpy_helper.to_array(tensor).shape) == [64, 96]


def test_weights_in_constant_nodes(build):
    m = build([("MatMul", ["x", "w"], ["y"])], {"x": ["n", 64]}, ["y"], {"w": normal(64, 64)}, infer=False)
    proto = ir.to_proto(m)
    tensor = proto.graph.initializer[0]
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    del proto.graph.initializer[:]
    m = ir.from_proto(proto)
    made = quantize_weights(m, data=correlated(m))
    assert [row.name for row in made.layers] == ["w"]
    assert made.bytes_after < 0.35 * made.bytes_before
