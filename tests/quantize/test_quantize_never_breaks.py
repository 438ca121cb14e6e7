"""Graphs that trip quantizers: every one comes out valid, runs, and answers nearly as before."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgec import quantize as q
from edgec.data import Dataset, sqnr_db
from edgec.errors import BadInputError, UnsupportedError
from edgec.quantize.arithmetic import quantize_weight
from edgec.quantize.layers import weight_axis
from edgec.quantize.session import Session

RNG = np.random.default_rng(1)
W = RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.2
B = RNG.standard_normal(8).astype(np.float32)
PAD = {"pads": [1, 1, 1, 1]}
X = {"x": [1, 8, 8, 8]}


def check(model, data, at_least=25.0, full=True, **options):
    before = ir.to_proto(model).SerializeToString()
    made = q.quantize_with_data(model, data, effort="plain", **options)
    assert ir.to_proto(model).SerializeToString() == before  # the float model is not touched
    if full:
        onnx.checker.check_model(ir.to_proto(made.model), full_check=True)
    assert [o.name for o in made.model.graph.outputs] == [o.name for o in model.graph.outputs]
    assert [i.name for i in made.model.graph.inputs] == [i.name for i in model.graph.inputs]
    a, b = Session(model), Session(made.model)
    feeds = list(data)
    got = [x for f in feeds for x in b.run(f)]
    assert all(np.isfinite(x).all() for x in got)
    assert sqnr_db([x for f in feeds for x in a.run(f)], got) > at_least
    assert q.fusion_report(made.model).unfused == ()
    return made


CASES = {
    "weight shared by two layers": ([("Conv", ["x", "w"], ["c"], PAD), ("Conv", ["c", "w"], ["y"], PAD)], ["y"]),
    "bias shared by two layers": (
        [("Conv", ["x", "w", "b"], ["c"], PAD), ("Relu", ["c"], ["r"]), ("Conv", ["r", "w", "b"], ["y"], PAD)],
        ["y"],
    ),
    "weight is also a float operand": (
        [("Conv", ["x", "w"], ["c"], PAD), ("ReduceSum", ["w"], ["k"], {"keepdims": 0}), ("Add", ["c", "k"], ["y"])],
        ["y"],
    ),
    "inner value is an output": (
        [("Conv", ["x", "w"], ["c"], PAD), ("Relu", ["c"], ["r"]), ("Conv", ["r", "w"], ["y"], PAD)],
        ["y", "c", "r"],
    ),
    "activation read twice": (
        [
            ("Conv", ["x", "w"], ["c"], PAD),
            ("Relu", ["c"], ["r"]),
            ("Add", ["c", "r"], ["s"]),
            ("Conv", ["s", "w"], ["y"], PAD),
        ],
        ["y"],
    ),
    "residual from the input": (
        [("Conv", ["x", "w", "b"], ["c"], PAD), ("Add", ["x", "c"], ["s"]), ("Conv", ["s", "w"], ["y"], PAD)],
        ["y"],
    ),
    "both operands the same": (
        [("Conv", ["x", "w"], ["c"], PAD), ("Add", ["c", "c"], ["s"]), ("Conv", ["s", "w"], ["y"], PAD)],
        ["y"],
    ),
    "squeeze and excite": (
        [
            ("Conv", ["x", "w", "b"], ["c"], PAD),
            ("GlobalAveragePool", ["c"], ["g"]),
            ("Conv", ["g", "w1"], ["e"]),
            ("HardSigmoid", ["e"], ["h"]),
            ("Mul", ["c", "h"], ["m"]),
            ("Conv", ["m", "w"], ["y"], PAD),
        ],
        ["y"],
    ),
    "transposed convolution": ([("Conv", ["x", "w"], ["c"], PAD), ("ConvTranspose", ["c", "w"], ["y"], PAD)], ["y"]),
    "shape of an integer value": (
        [
            ("Conv", ["x", "w"], ["c"], PAD),
            ("Shape", ["c"], ["n"]),
            ("Transpose", ["c"], ["t"], {"perm": [0, 1, 3, 2]}),
            ("Reshape", ["t", "n"], ["r"]),
            ("Conv", ["r", "w"], ["y"], PAD),
        ],
        ["y"],
    ),
    "dead layer": (
        [("Conv", ["x", "w0", "b"], ["c"], PAD), ("Relu", ["c"], ["r"]), ("Conv", ["r", "w"], ["y"], PAD)],
        ["y"],
    ),
    "bound as weight": ([("Clip", ["x", "lo", "hi"], ["c"]), ("Conv", ["c", "w"], ["y"], PAD)], ["y"]),
}


@pytest.mark.parametrize("infer", [True, False], ids=["typed", "untyped"])
@pytest.mark.parametrize("case", CASES)
def test_awkward_graphs(build, feeds, case, infer):
    nodes, outputs = CASES[case]
    constants = {
        "w": W, "w0": np.zeros_like(W), "w1": W[:, :, :1, :1].copy() * 3, "b": B, "lo": np.float32(-1),
        "hi": np.float32(1),
    }  # fmt: skip
    used = {i for n in nodes for i in n[1]}
    model = build(nodes, X, outputs, {k: v for k, v in constants.items() if k in used}, infer=infer)
    check(model, feeds(model), full=infer)


def test_input_that_is_an_output(build, feeds):
    model = build([("Conv", ["x", "w"], ["y"], PAD)], X, ["y", "x"], {"w": W})
    check(model, feeds(model))


def test_weights_as_constant_nodes_and_nodes_without_names(build, feeds):
    model = build([("Conv", ["x", "w"], ["y"], PAD)], X, ["y"], {"w": W})
    proto = ir.to_proto(model)
    tensor = proto.graph.initializer.pop()
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    model = ir.from_proto(proto)
    made = check(model, feeds(model))
    assert "Constant" not in {n.op_type for n in made.model.graph}  # the float weight is gone


def test_same_weight_on_different_axes(build, feeds):
    square = RNG.standard_normal((8, 8)).astype(np.float32) * np.logspace(-1, 1, 8, dtype=np.float32)[:, None]
    model = build(
        [("Gemm", ["x", "w"], ["c"]), ("Gemm", ["c", "w"], ["y"], {"transB": 1})], {"x": [4, 8]}, ["y"], {"w": square}
    )
    made = check(model, feeds(model))
    axes = {
        n.attributes["axis"].as_int()
        for n in made.model.graph
        if n.op_type == "DequantizeLinear" and "axis" in n.attributes
    }
    assert axes == {0, 1}


def test_dynamic_shapes(build, feeds):
    nodes = [
        ("Conv", ["x", "w"], ["c"], PAD),
        ("Relu", ["c"], ["r"]),
        ("MaxPool", ["r"], ["p"], {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Conv", ["p", "w"], ["y"], PAD),
    ]
    model = build(nodes, {"x": ["n", 8, "h", "w_"]}, ["y"], {"w": W})
    made = check(model, feeds(model, shapes={"x": [1, 8, 10, 12]}))
    assert Session(made.model).run({"x": np.ones((3, 8, 6, 4), np.float32)})[0].shape == (3, 8, 3, 2)


def test_subgraphs_read_the_dequantized_value(build, feeds):
    def body(name):
        node = helper.make_node("Identity" if name == "t" else "Neg", ["c"], [f"{name}_out"])
        return helper.make_graph(
            [node], name, [], [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)]
        )

    nodes = [
        ("Conv", ["x", "w"], ["c"], PAD),
        ("If", ["flag"], ["y"], {"then_branch": body("t"), "else_branch": body("e")}),
    ]
    model = build(nodes, X | {"flag": []}, ["y"], {"w": W}, types={"flag": TensorProto.BOOL})
    made = check(model, feeds(model))
    assert q.fusion_report(made.model).integer == {"QLinearConv": 1}


def test_lstm_stays_float(build, feeds):
    hidden = 4
    constants = {
        "w": RNG.standard_normal((8, 8, 3)).astype(np.float32) * 0.3,
        "lw": RNG.standard_normal((1, 4 * hidden, 8)).astype(np.float32) * 0.3,
        "lr": RNG.standard_normal((1, 4 * hidden, hidden)).astype(np.float32) * 0.3,
    }
    nodes = [
        ("Conv", ["x", "w"], ["c"]),
        ("Transpose", ["c"], ["t"], {"perm": [2, 0, 1]}),
        ("LSTM", ["t", "lw", "lr"], ["y"], {"hidden_size": hidden}),
    ]
    model = build(nodes, {"x": [1, 8, 10]}, ["y"], constants)
    made = check(model, feeds(model))
    assert {"lw", "lr"} <= set(made.model.graph.initializers)


def test_embedding_and_layer_norm_stay_float(build, feeds):
    constants = {
        "table": RNG.standard_normal((2, 8)).astype(np.float32),
        "scale": np.ones(8, np.float32),
        "w": RNG.standard_normal((8, 8)).astype(np.float32),
    }
    nodes = [
        ("Gather", ["table", "ids"], ["e"]),
        ("LayerNormalization", ["e", "scale"], ["n"]),
        ("MatMul", ["n", "w"], ["m"]),
        ("Transpose", ["m"], ["t"], {"perm": [0, 2, 1]}),
        ("MatMul", ["m", "t"], ["y"]),
    ]
    model = build(nodes, {"ids": [1, 5]}, ["y"], constants, types={"ids": TensorProto.INT64})
    made = check(model, feeds(model))
    assert q.fusion_report(made.model).integer == {"MatMulIntegerToFloat": 1}
    assert "table" in made.model.graph.initializers


def test_values_that_become_infinite_leave_their_layer_in_float(build, feeds):
    nodes = [("Log", ["r"], ["l"]), ("MatMul", ["l", "w"], ["y"])]
    model = build([("Relu", ["x"], ["r"]), *nodes, ("Conv", ["x4", "k"], ["z"], PAD)],
                  {"x": [2, 8], "x4": [1, 8, 8, 8]}, ["y", "z"], {"w": W[0, :, :, 0].copy(), "k": W})  # fmt: skip
    made = q.quantize_with_data(model, feeds(model), effort="plain")
    assert "l" in made.ranges.skipped
    assert next(n for n in made.model.graph if n.op_type == "MatMul").inputs[1].name == "w"
    assert q.fusion_report(made.model).integer == {"QLinearConv": 1}


def test_weights_that_are_not_finite_stay_float(build, feeds):
    broken = W.copy()
    broken[0, 0, 0, 0] = np.nan
    model = build([("Conv", ["x", "w"], ["y"], PAD)], X, ["y"], {"w": broken})
    with pytest.raises(UnsupportedError, match="no layer"):
        q.quantize_with_data(model, feeds(model))


def test_weight_that_is_also_an_input_stays_float(build, feeds):
    model = build(
        [("Conv", ["x", "w"], ["c"], PAD), ("Conv", ["c", "k"], ["y"], PAD)], X | {"w": [8, 8, 3, 3]}, ["y"], {"k": W}
    )
    made = check(model, feeds(model, scale=0.3))
    assert q.fusion_report(made.model).integer == {"QLinearConv": 1}


def test_empty_and_nan_calibration(build):
    model = build([("Conv", ["x", "w"], ["y"], PAD)], X, ["y"], {"w": W})
    bad = np.full((1, 8, 8, 8), np.nan, np.float32)
    for feeds in ([], [{"x": bad}], [{"x": bad[:, :4]}], [{}]):
        with pytest.raises(BadInputError):
            q.quantize_with_data(model, Dataset.of(feeds, model.graph.inputs))


def test_one_sample_is_enough(build, feeds):
    model = build([("Conv", ["x", "w"], ["y"], PAD)], X, ["y"], {"w": W})
    made = q.quantize_with_data(model, feeds(model, 1))
    assert made.ranges.samples == 1 and not made.correction.kept


def test_same_bytes_every_time(build, feeds):
    nodes, outputs = CASES["squeeze and excite"]
    model = build(nodes, X, outputs, {"w": W, "w1": W[:, :, :1, :1].copy(), "b": B})
    a, b = (
        ir.to_proto(q.quantize_with_data(model, feeds(model)).model).SerializeToString(deterministic=True) for _ in "ab"
    )
    assert a == b


def test_conv_transpose_channels():
    node = ir.Node("", "ConvTranspose", [ir.Value(name="x"), ir.Value(name="w")], [ir.AttrInt64("group", 2)])
    weight = RNG.standard_normal((4, 3, 2, 2)).astype(np.float32) * np.float32([1, 10, 100])[None, :, None, None]
    axis = weight_axis(node, 4)
    made = quantize_weight(weight, axis=axis)
    assert axis == 1 and made.scale.shape == (3,)
    np.testing.assert_allclose(made.scale, np.abs(weight).max((0, 2, 3)) / 127, rtol=1e-6)
