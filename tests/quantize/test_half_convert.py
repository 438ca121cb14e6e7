"""float16 and bfloat16 forms of whole models: types, Casts, what stays float32 and why, and that they answer alike."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from edgec.data import Dataset, sqnr_db
from edgec.errors import UsageError
from edgec.quantize.half import to_half
from edgec.quantize.session import Session

RNG = np.random.default_rng(3)
W = RNG.normal(0, 0.08, (32, 32, 3, 3)).astype(np.float32)
B = RNG.normal(0, 1, 32).astype(np.float32)
PAD = {"pads": [1, 1, 1, 1]}
HALF = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16}


def types(model):
    return [n.op_type for n in model.graph]


def checked(half):
    onnx.checker.check_model(ir.to_proto(half.model), full_check=True)
    return half


def convnet(build, middle=("Relu", ["c"], ["r"]), constants=None, opset=21):
    return build(
        [("Conv", ["x", "w", "b"], ["c"], PAD, "first"), middle, ("Conv", ["r", "w", "b"], ["y"], PAD, "last")],
        {"x": [1, 32, 32, 32]},
        ["y"],
        {"w": W, "b": B, **(constants or {})},
        opset=opset,
    )


def db(model, half, data, **options):
    a, b = Session(model), Session(half.model, **options)
    feeds = list(data)
    return sqnr_db([x for f in feeds for x in a.run(f)], [x for f in feeds for x in b.run(f)])


@pytest.mark.parametrize(("kind", "bar"), [("float16", 65), ("bfloat16", 45)])
def test_weights_are_stored_in_half_and_folded_when_loaded(build, feeds, kind, bar, tmp_path):
    model = convnet(build)
    before = ir.to_proto(model).SerializeToString()
    data = feeds(model)
    half = checked(to_half(model, kind=kind, data=data))
    assert ir.to_proto(model).SerializeToString() == before
    assert len(ir.to_proto(half.model).SerializeToString()) < 0.62 * len(before)
    assert [v.const_value.dtype.name for v in half.model.graph.initializers.values()] == ["FLOAT", kind.upper()]
    assert half.model.graph.inputs[0].dtype == half.model.graph.outputs[0].dtype == ir.DataType.FLOAT
    assert db(model, half, data) > bar and half.report.sqnr_db > bar
    Session(half.model, save_optimized=tmp_path / "o.onnx")
    assert "Cast" not in types(ir.load(tmp_path / "o.onnx"))


@pytest.mark.parametrize("kind", list(HALF))
@pytest.mark.parametrize("keep_io", [True, False])
def test_a_convnet_computes_in_half_between_two_casts(build, feeds, kind, keep_io):
    model = convnet(build)
    half = checked(to_half(model, kind=kind, mode="compute", keep_io=keep_io, data=feeds(model)))
    casts = ["Cast"] if keep_io else []
    assert types(half.model) == [*casts, "Conv", "Relu", "Conv", *casts]
    assert half.report.half == {"Conv": 2, "Relu": 1} and half.report.kept == {} and half.report.casts == len(casts) * 2
    assert {v.const_value.dtype.name for v in half.model.graph.initializers.values()} == {kind.upper()}
    ends = {half.model.graph.inputs[0].dtype, half.model.graph.outputs[0].dtype}
    assert ends == {ir.DataType.FLOAT if keep_io else ir.DataType(HALF[kind])}
    assert half.model.graph.inputs[0].name == "x" and half.model.graph.outputs[0].name == "y"
    assert half.report.sqnr_db > (50 if kind == "float16" else 32)


@pytest.mark.parametrize(("kind", "bar"), [("float16", 50), ("bfloat16", 30)])
def test_onnx_own_evaluator_agrees(build, feeds, kind, bar):
    """It computes each operator in 16 bits, products and sums as well: legal ONNX that means what it should."""
    w = RNG.normal(0, 0.06, (256, 256)).astype(np.float32)
    model = build(
        [("MatMul", ["x", "w"], ["m"]), ("Add", ["m", "v"], ["s"]), ("Relu", ["s"], ["y"])],
        {"x": [64, 256]},
        ["y"],
        {"w": w, "v": w[0]},
    )
    half = checked(to_half(model, kind=kind, mode="compute"))
    assert half.report.half == {"MatMul": 1, "Add": 1, "Relu": 1}
    feed = next(iter(feeds(model)))
    with np.errstate(all="ignore"):
        got = ReferenceEvaluator(ir.to_proto(half.model)).run(None, feed)
    assert got[0].dtype == np.float32
    assert sqnr_db(Session(model).run(feed), got) > bar


def test_bfloat16_convolutions_need_opset_22_and_get_it(build):
    half = checked(to_half(convnet(build), kind="bfloat16", mode="compute"))
    assert half.model.graph.opset_imports[""] == 22 and half.report.half["Conv"] == 2


def test_what_may_leave_the_range_stays_float32_without_data_and_is_looked_at_with(build, feeds):
    model = convnet(build, ("Softmax", ["c"], ["r"], {"axis": 1}))
    blind = checked(to_half(model, mode="compute"))
    assert types(blind.model) == ["Cast", "Conv", "Cast", "Softmax", "Cast", "Conv", "Cast"]
    (why,) = blind.report.kept.values()
    assert "Softmax" in why and "no data" in why
    seen = checked(to_half(model, mode="compute", data=feeds(model)))
    assert types(seen.model) == ["Cast", "Conv", "Softmax", "Conv", "Cast"]
    hot = checked(to_half(model, mode="compute", data=feeds(model, scale=100.0)))
    assert types(hot.model) == types(blind.model) and "errs" in next(iter(hot.report.kept.values()))


@pytest.mark.parametrize(
    ("middle", "constants", "words"),
    [
        (("Add", ["c", "k"], ["r"]), {"k": np.float32(1e6)}, "beyond"),
        (("Add", ["c", "k"], ["r"]), {"k": np.float32(1e-12)}, "too small"),
        (("Mul", ["c", "k"], ["r"]), {"k": np.float32(30000.0)}, "near the end"),
        (("Mul", ["c", "k"], ["r"]), {"k": np.float32(2.0**-14)}, "few digits"),
        (("Sqrt", ["c"], ["r"]), {}, "infinite, undefined"),
        (("Log", ["c"], ["r"]), {}, "infinite, undefined"),
        (("Floor", ["c"], ["r"]), {}, "flips"),
        (("CumSum", ["c", "k"], ["r"]), {"k": np.array(1)}, "add up"),
        (("ReduceSumSquare", ["c", "k"], ["r"]), {"k": np.array([2])}, ""),
    ],
)
def test_numbers_that_dont_fit_stay_float32_with_a_reason(build, feeds, middle, constants, words):
    model = convnet(build, middle, constants)
    half = checked(to_half(model, mode="compute", data=feeds(model)))
    assert any(words in why for why in half.report.kept.values()) if words else half.report.half[middle[0]]
    # Whatever became of it, it is run: finite where float32 is, and near.
    feed = next(iter(feeds(model)))
    expected, got = Session(model).run(feed)[0], Session(half.model).run(feed)[0]
    assert (np.isfinite(got) == np.isfinite(expected)).all()


def test_a_weight_beyond_the_range_keeps_its_layer_in_float32(build, feeds):
    big = W.copy()
    big[0, 0, 0, 0] = 70000
    model = convnet(build)
    model.graph.initializers["w"].const_value = ir.Tensor(big, name="w")
    for mode in ("weights", "compute"):
        half = checked(to_half(model, mode=mode))
        assert half.report.half == {} and "beyond ±65504" in half.report.stored.kept["w"]
        feed = next(iter(feeds(model)))
        np.testing.assert_array_equal(Session(model).run(feed)[0], Session(half.model).run(feed)[0])
    assert to_half(model, kind="bfloat16").report.stored.kept == {}


def test_infinite_weights_stay_infinite(build):
    w = W.copy()
    w[0, 0, 0, :2] = np.inf, -np.inf
    model = convnet(build)
    model.graph.initializers["w"].const_value = ir.Tensor(w, name="w")
    half = checked(to_half(model))
    stored = next(v.const_value.numpy() for v in half.model.graph.initializers.values() if v.dtype.name == "FLOAT16")
    np.testing.assert_array_equal(np.isinf(stored), np.isinf(w))
    np.testing.assert_array_equal(np.sign(stored[np.isinf(w)]), [1, -1])


def test_recurrent_layers_stay_float32_with_16_bit_weights(build, feeds):
    def lstm(gates, kind):
        r = np.random.default_rng(0)
        return build(
            [("MatMul", ["x", "w"], ["m"]), (kind, ["m", "wi", "wr"], ["y"], {"hidden_size": 8}, "layer")],
            {"x": [5, 2, 16]},
            ["y"],
            {
                "w": r.normal(0, 0.2, (16, 16)).astype(np.float32),
                "wi": r.normal(0, 0.2, (1, gates * 8, 16)).astype(np.float32),
                "wr": r.normal(0, 0.2, (1, gates * 8, 8)).astype(np.float32),
            },
        )

    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        model = lstm(gates, kind)
        data = feeds(model)
        for mode in ("weights", "compute"):
            half = checked(to_half(model, mode=mode, data=data))
            layer = next(n for n in half.model.graph if n.op_type == kind)
            assert all(v.dtype == ir.DataType.FLOAT for v in layer.inputs if v is not None)
            stored = [v for v in half.model.graph.initializers.values() if v.dtype == ir.DataType.FLOAT16]
            assert len(stored) == 3 if gates > 1 else stored
            assert db(model, half, data) > 60
        assert "add up" in half.report.kept["layer"]


def test_resize_keeps_float32_scales_and_shape_needs_no_cast(build, feeds):
    model = build(
        [
            ("Conv", ["x", "w"], ["c"], PAD),
            ("Resize", ["c", "", "z"], ["u"], {"mode": "linear"}),
            ("Shape", ["u"], ["s"]),
            ("Conv", ["u", "w"], ["y"], PAD),
        ],
        {"x": [1, 32, 24, 24]},
        ["y", "s"],
        {"w": W, "z": np.float32([1, 1, 2, 2])},
        types={"s": onnx.TensorProto.INT64},
    )
    half = checked(to_half(model, mode="compute"))
    assert half.report.half == {"Conv": 2, "Resize": 1} and half.report.casts == 2
    assert half.model.graph.initializers["z"].dtype == ir.DataType.FLOAT
    feed = next(iter(feeds(model)))
    np.testing.assert_array_equal(Session(model).run(feed)[1], Session(half.model).run(feed)[1])


def test_one_cast_serves_all_that_read_a_value(build):
    model = build(
        [
            ("Conv", ["x", "w"], ["c"], PAD),
            ("Floor", ["c"], ["f"]),
            ("Ceil", ["c"], ["g"]),
            ("Add", ["f", "g"], ["h"]),
            ("Conv", ["h", "w"], ["y"], PAD),
        ],
        {"x": [1, 32, 24, 24]},
        ["y", "c"],
        {"w": W},
    )
    half = checked(to_half(model, mode="compute"))
    assert half.report.casts == 4  # x, c (for Floor, Ceil and the output), the sum, y
    assert types(half.model).count("Cast") == 4


def test_a_lone_operator_between_float32_ones_is_not_worth_two_casts(build):
    model = build(
        [("Floor", ["x"], ["a"]), ("Add", ["a", "x"], ["b"]), ("Floor", ["b"], ["y"])], {"x": [64]}, ["y"], {}
    )
    half = checked(to_half(model, mode="compute"))
    assert half.report.half == {} and half.report.casts == 0
    assert "not worth" in " ".join(half.report.kept.values())


def _branches():
    """If with a convolution in each branch, one reading the outer value, one giving it out as it is."""
    h, t = onnx.helper, onnx.TensorProto
    info = h.make_tensor_value_info
    then = h.make_graph(
        [h.make_node("Conv", ["c", "w2"], ["t"], pads=[1] * 4)],
        "then",
        [],
        [info("t", t.FLOAT, [1, 32, 24, 24])],
        [onnx.numpy_helper.from_array(W, "w2")],
    )
    orelse = h.make_graph([h.make_node("Relu", ["c"], ["e"])], "else", [], [info("e", t.FLOAT, [1, 32, 24, 24])])
    nodes = [
        h.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        h.make_node("If", ["flag"], ["z"], then_branch=then, else_branch=orelse),
        h.make_node("Conv", ["z", "w"], ["y"], pads=[1] * 4),
    ]
    graph = h.make_graph(
        nodes,
        "g",
        [info("x", t.FLOAT, [1, 32, 24, 24]), info("flag", t.BOOL, [])],
        [info("y", t.FLOAT, [1, 32, 24, 24])],
        [onnx.numpy_helper.from_array(W, "w")],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))


@pytest.mark.parametrize("mode", ["weights", "compute"])
@pytest.mark.parametrize("keep_io", [True, False])
def test_bodies_are_converted_too_and_read_float32_from_outside(mode, keep_io):
    model = _branches()
    half = checked(to_half(model, mode=mode, keep_io=keep_io))
    inner = next(n for n in half.model.graph if n.op_type == "If").attributes["then_branch"].as_graph()
    assert [v.dtype.name for v in inner.initializers.values()] == ["FLOAT16"]
    if mode == "compute":
        assert half.report.half["Conv"] == 3
    x = np.random.default_rng(0).normal(0, 1, (1, 32, 24, 24)).astype(np.float32)
    for flag in (True, False):
        (expected,) = Session(model).run({"x": x, "flag": np.array(flag)})
        given = x.astype(np.float16) if half.model.graph.inputs[0].dtype == ir.DataType.FLOAT16 else x
        (got,) = Session(half.model).run({"x": given, "flag": np.array(flag)})
        assert sqnr_db(expected, got.astype(np.float32)) > 55


def test_a_value_that_a_body_gives_out_as_it_is_stays_float32():
    model = _branches()
    branch = next(n for n in model.graph if n.op_type == "If").attributes["else_branch"].as_graph()
    branch.outputs[0] = next(iter(model.graph)).outputs[0]
    branch.remove(branch[0])
    half = to_half(model, mode="compute")
    assert "given out by a body" in " ".join(half.report.kept.values())
    branch = next(n for n in half.model.graph if n.op_type == "If").attributes["else_branch"].as_graph()
    assert branch.outputs[0].dtype == ir.DataType.FLOAT  # ONNX Runtime would want an Identity there: not run


def test_exclusions_keep_weights_and_arithmetic(build):
    model = convnet(build)
    half = checked(to_half(model, mode="compute", exclude=["last"]))
    assert half.report.kept == {"last": "excluded"} and half.report.half["Conv"] == 1
    assert half.model.graph.initializers["w"].dtype == ir.DataType.FLOAT
    assert to_half(model, exclude=["Conv"]).report.stored.tensors == 0
    with pytest.raises(UsageError, match="nothing to exclude"):
        to_half(model, exclude=["lst"])


def test_onnxruntime_on_x86_has_no_such_kernels_so_nothing_is_converted(build):
    from edgec_targets.emitters.onnxruntime import kernels

    model = convnet(build)
    half = checked(to_half(model, mode="compute", engine="onnxruntime"))
    if any("tensor(float16)" in types["T"] for _, _, types in kernels._registered()["", "Conv"]):
        assert half.report.half["Conv"] == 2  # ARM with fp16
    else:
        assert half.report.half == {} and half.report.casts == 0
        assert "no float16 kernel of Conv" in half.report.kept["first"]
    with pytest.raises(UsageError, match="not known"):
        to_half(model, mode="compute", engine="abacus")


def test_nonsense_is_refused(build):
    model = convnet(build)
    for options in ({"kind": "half"}, {"mode": "both"}, {"rounding": "up"}):
        with pytest.raises(UsageError):
            to_half(model, **options)


def test_it_is_deterministic_and_converting_twice_changes_nothing(build, feeds):
    model = convnet(build)
    data = feeds(model)
    for mode in ("weights", "compute"):
        made = [ir.to_proto(to_half(model, mode=mode, data=data).model).SerializeToString() for _ in range(2)]
        assert made[0] == made[1]
        again = to_half(ir.from_proto(onnx.ModelProto.FromString(made[0])), mode=mode)
        assert again.report.half == {} and again.report.stored.tensors == 0


def test_no_float_at_all(build):
    model = build([("Add", ["x", "x"], ["y"])], {"x": [3]}, ["y"], {}, types=dict.fromkeys("xy", 7))
    data = Dataset.of([{"x": np.arange(3)}], model.graph.inputs)
    for mode in ("weights", "compute"):
        half = checked(to_half(model, mode=mode, data=data))
        assert half.report.half == {} and half.report.stored.tensors == 0
