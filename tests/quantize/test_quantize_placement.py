"""Where Q/DQ sits, and that onnxruntime really fuses it: each entry of its table, then whole patterns."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import quantize as q
from edgec.data import sqnr_db
from edgec.errors import MissingError, UnsupportedError, UsageError
from edgec.quantize.placement import rules
from edgec.quantize.session import Session

RNG = np.random.default_rng(0)
W = RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.2
DEPTHWISE = RNG.standard_normal((8, 1, 3, 3)).astype(np.float32) * 0.4
B = RNG.standard_normal(8).astype(np.float32)
PAD = {"pads": [1, 1, 1, 1]}


def run(model, data, exclude=(), **options):
    assignment = q.assign(model, exclude=exclude, scheme=options.pop("scheme", q.Scheme()))
    ranges = q.calibrate(model, data, values=q.ranges_needed(model, assignment), **options)
    quantized = q.quantize(model, ranges, assignment)
    onnx.checker.check_model(ir.to_proto(quantized), full_check=True)
    return quantized


def db(model, quantized, data):
    a, b = Session(model), Session(quantized)
    feeds = list(data)
    return sqnr_db([x for f in feeds for x in a.run(f)], [x for f in feeds for x in b.run(f)])


def types(model):
    return [n.op_type for n in model.graph]


# What stands between two convolutions: (nodes from "a" to "b", constants, integer operator of onnxruntime or None).
OWN_SCALE = {
    "Add": ([("Add", ["a", "a2"], ["b"])], {}, "QLinearAdd"),
    "Mul": ([("Mul", ["a", "a2"], ["b"])], {}, "QLinearMul"),
    "Concat": (
        [("Concat", ["a", "a2"], ["c"], {"axis": 2}), ("MaxPool", ["c"], ["b"], {"kernel_shape": [2, 1]})],
        {},
        "QLinearConcat",
    ),
    "AveragePool": ([("AveragePool", ["a"], ["b"], {"kernel_shape": [2, 2]})], {}, "QLinearAveragePool"),
    "GlobalAveragePool": ([("GlobalAveragePool", ["a"], ["b"])], {}, "QLinearGlobalAveragePool"),
    "Sigmoid": ([("Sigmoid", ["a"], ["b"])], {}, "QLinearSigmoid"),
    "LeakyRelu": ([("LeakyRelu", ["a"], ["b"])], {}, "QLinearLeakyRelu"),
    "Where": (
        [("Where", ["mask", "a", "a2"], ["b"])],
        {"mask": (np.arange(64) % 3 == 0).reshape(1, 1, 8, 8)},
        "QLinearWhere",
    ),
}
SAME_SCALE = {
    "DepthToSpace": (
        [("DepthToSpace", ["a"], ["c"], {"blocksize": 2}), ("Tile", ["c", "r"], ["b"])],
        {"r": np.array([1, 4, 1, 1])},
    ),
    "Expand": ([("Expand", ["a", "s"], ["b"])], {"s": np.array([2, 8, 8, 8])}),
    "Flatten": ([("Flatten", ["a"], ["c"]), ("Reshape", ["c", "s"], ["b"])], {"s": np.array([1, 8, 8, 8])}),
    "Gather": ([("Gather", ["a", "i"], ["b"], {"axis": 2})], {"i": np.array([0, 3, 5])}),
    "GatherElements": (
        [("GatherElements", ["a", "i"], ["b"], {"axis": 2})],
        {"i": np.arange(8 * 64).reshape(1, 8, 8, 8) * 5 % 8},
    ),
    "MaxPool": ([("MaxPool", ["a"], ["b"], {"kernel_shape": [2, 2]})], {}),
    "ReduceMax": ([("ReduceMax", ["a", "ax"], ["b"])], {"ax": np.array([2])}),
    "ReduceMin": ([("ReduceMin", ["a", "ax"], ["b"])], {"ax": np.array([2])}),
    "Reshape": ([("Reshape", ["a", "s"], ["b"])], {"s": np.array([1, 8, 4, 16])}),
    "Resize": (
        [("Resize", ["a", "", "z"], ["b"], {"mode": "nearest"})],
        {"z": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Slice": ([("Slice", ["a", "u", "v", "ax"], ["b"])], {"u": np.array([0]), "v": np.array([5]), "ax": np.array([2])}),
    "Split": ([("Split", ["a"], ["c", "d"], {"axis": 2, "num_outputs": 2}), ("Add", ["c", "d"], ["b"])], {}),
    "Squeeze": ([("Squeeze", ["a", "ax"], ["c"]), ("Unsqueeze", ["c", "ax"], ["b"])], {"ax": np.array([0])}),
    "Tile": ([("Tile", ["a", "r"], ["b"])], {"r": np.array([1, 1, 2, 1])}),
    "Transpose": ([("Transpose", ["a"], ["b"], {"perm": [0, 1, 3, 2]})], {}),
    "Unsqueeze": ([("Squeeze", ["a", "ax"], ["c"]), ("Unsqueeze", ["c", "ax"], ["b"])], {"ax": np.array([0])}),
}


def between(build, nodes, constants, opset=21):
    """conv (two where the nodes take two) → nodes → conv."""
    second = any("a2" in n[1] for n in nodes)
    return build(
        [
            ("Conv", ["x", "w", "bias"], ["a"], PAD),
            *([("Conv", ["x", "w2"], ["a2"], PAD)] if second else []),
            *nodes,
            ("Conv", ["b", "w"], ["y"], PAD),
        ],
        {"x": [1, 8, 8, 8]},
        ["y"],
        {"w": W, **({"w2": -W} if second else {}), "bias": B, **constants},
        opset=opset,
    )


@pytest.mark.parametrize("kind", sorted(rules("onnxruntime").own_scale))
def test_operators_with_their_own_scale_fuse(build, feeds, kind):
    nodes, constants, integer = OWN_SCALE[kind]
    model = between(build, nodes, constants)
    data = feeds(model)
    quantized = run(model, data)
    report = q.fusion_report(quantized)
    assert report.integer[integer] == 1
    assert report.unfused == report.float_layers == ()
    assert (report.quantize, report.dequantize) == (1, 1)  # in and out, nothing between
    assert db(model, quantized, data) > 25


@pytest.mark.parametrize("kind", sorted(rules("onnxruntime").same_scale))
def test_operators_that_move_data_run_on_integers(build, feeds, kind):
    nodes, constants = SAME_SCALE[kind]
    model = between(build, nodes, constants)
    data = feeds(model)
    quantized = run(model, data)
    report = q.fusion_report(quantized)
    assert report.integer["QLinearConv"] >= 2
    assert (report.quantize, report.dequantize) == (1, 1)
    assert db(model, quantized, data) > 25


def test_where_with_a_constant_stays_float(build, feeds):
    mask = (np.arange(64) % 3 == 0).reshape(1, 1, 8, 8)
    nodes = [("Where", ["mask", "a", "k"], ["b"])]
    model = between(build, nodes, {"mask": mask, "k": np.full((1, 8, 1, 1), -1e9, np.float32)})
    quantized = run(model, feeds(model))
    assert "QLinearWhere" not in q.fusion_report(quantized).integer


@pytest.mark.parametrize("kind", ["HardSwish", "Tanh", "Softplus"])
def test_operators_without_an_integer_kernel_stay_float_without_harm(build, feeds, kind):
    model = between(build, [(kind, ["a"], ["b"])], {})
    data = feeds(model)
    quantized = run(model, data)
    report = q.fusion_report(quantized)
    assert report.unfused == () and report.integer["QLinearConv"] == 2
    assert db(model, quantized, data) > 25


@pytest.mark.parametrize("opset", [13, 17, 21, 23])
@pytest.mark.parametrize("weight", [W, DEPTHWISE], ids=["full", "depthwise"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_conv_and_activation_become_one_integer_operator(build, feeds, opset, weight, activation):
    group = {"group": 8 // weight.shape[1], **PAD}
    bounds = ["lo", "hi"] if activation == "Clip" else []
    model = build(
        [("Conv", ["x", "w", "b"], ["c"], group), (activation, ["c", *bounds], ["y"])],
        {"x": [1, 8, 8, 8]},
        ["y"],
        {"w": weight, "b": B, **({"lo": np.float32(0), "hi": np.float32(2)} if bounds else {})},
        opset=opset,
    )
    data = feeds(model)
    quantized = run(model, data)
    assert activation not in types(quantized)
    assert set(quantized.graph.initializers).isdisjoint({"w", "b", "lo", "hi"})
    assert quantized.graph.outputs[0].name == "y"
    assert q.fusion_report(quantized).integer == {"QLinearConv": 1}
    assert db(model, quantized, data) > 25


def test_clip_stays_where_the_range_goes_beyond_it(build, feeds):
    model = build(
        [("Conv", ["x", "w"], ["c"], PAD), ("Clip", ["c", "lo"], ["y"])],
        {"x": [1, 8, 8, 8]},
        ["y"],
        {"w": W, "lo": np.float32(1.0)},  # never below 1, but the range must reach 0
    )
    data = feeds(model)
    quantized = run(model, data)
    assert "Clip" in types(quantized)
    assert db(model, quantized, data) > 25


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_matmul_keeps_a_float_result_where_nobody_wants_integers(build, feeds, rank, bias):
    weight = RNG.standard_normal((8, 5)).astype(np.float32)
    nodes = [("MatMul", ["x", "w"], ["m"]), ("Add", ["m", "b"], ["s"])] if bias else [("MatMul", ["x", "w"], ["s"])]
    model = build(
        [*nodes, ("Softmax", ["s"], ["y"])],
        {"x": [2, 4, 8][-rank:]},
        ["y"],
        {"w": weight, **({"b": B[:5]} if bias else {})},
    )
    data = feeds(model)
    quantized = run(model, data)
    report = q.fusion_report(quantized)
    assert report.unfused == report.float_layers == ()
    assert report.dequantize == 0 and report.quantize == 1
    assert db(model, quantized, data) > 30


@pytest.mark.parametrize(
    "attributes",
    [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0}, {"transA": 1}],
    ids=["plain", "transB", "scaled", "transA"],
)
@pytest.mark.parametrize("bias_shape", [(5,), (1, 5), (1,), ()])
def test_gemm(build, feeds, attributes, bias_shape):
    shape = (5, 8) if attributes.get("transB") else (8, 5)
    weight = RNG.standard_normal(shape).astype(np.float32)
    model = build(
        [("Gemm", ["x", "w", "b"], ["y"], attributes)],
        {"x": [8, 3] if attributes.get("transA") else [3, 8]},
        ["y"],
        {"w": weight, "b": RNG.standard_normal(bias_shape).astype(np.float32)},
    )
    data = feeds(model)
    quantized = run(model, data)
    assert q.fusion_report(quantized).integer == {"QGemm": 1}
    assert db(model, quantized, data) > 30


def test_gemm_chain_passes_integers_on(build, feeds):
    square = RNG.standard_normal((8, 8)).astype(np.float32) * 0.4
    model = build(
        [
            ("Gemm", ["x", "w", "b"], ["c"]),
            ("Relu", ["c"], ["r"]),
            ("Gemm", ["r", "w2", "b"], ["y"]),
        ],
        {"x": [4, 8]},
        ["y"],
        {"w": square, "w2": -square, "b": B},
    )
    data = feeds(model)
    report = q.fusion_report(run(model, data))
    assert report.integer == {"QGemm": 2} and (report.quantize, report.dequantize) == (1, 0)


def test_moved_graph_input_is_quantized_before_it_is_moved(build, feeds):
    model = build(
        [("Transpose", ["x"], ["t"], {"perm": [0, 3, 1, 2]}), ("Conv", ["t", "w"], ["y"], PAD)],
        {"x": [1, 6, 6, 8]},
        ["y"],
        {"w": W},
    )
    quantized = run(model, feeds(model))
    assert types(quantized)[0] == "QuantizeLinear"
    assert quantized.graph[0].inputs[0].name == "x"


def test_pooled_values_share_the_scale(build, feeds):
    model = between(build, SAME_SCALE["MaxPool"][0], {})
    quantized = run(model, feeds(model))
    pool = next(n for n in quantized.graph if n.op_type == "MaxPool")
    before, after = pool.inputs[0].producer(), pool.outputs[0].consumers()[0]
    assert before.inputs[1] is after.inputs[1] and before.inputs[2] is after.inputs[2]


def test_float_consumers_of_an_integer_layer_dont_break_its_fusion(build, feeds):
    model = build(
        [
            ("Conv", ["x", "w"], ["c"], PAD),
            ("Conv", ["c", "w"], ["y"], PAD),
            ("ReduceMean", ["c"], ["f"], {"keepdims": 0}),
            ("Exp", ["f"], ["z"]),
        ],
        {"x": [1, 8, 8, 8]},
        ["y", "z"],
        {"w": W},
    )
    report = q.fusion_report(run(model, feeds(model)))
    assert report.integer == {"QLinearConv": 2} and report.unfused == ()


def test_box_decode_and_power_spectrum_stay_float(build, feeds):
    head = [
        ("Conv", ["x", "w"], ["c"], PAD, "head"),
        ("Reshape", ["c", "s"], ["r"], {}, "reshape"),
        ("Mul", ["r", "k"], ["m"], {}, "scale"),
        ("Exp", ["m"], ["y"], {}, "decode"),
    ]
    model = build(head, {"x": [1, 8, 8, 8]}, ["y"], {"w": W, "s": np.array([1, -1]), "k": np.float32(0.2)})
    assert q.assign(model)["head"] is None
    squared = build(
        [("Conv", ["x", "w"], ["c"], PAD, "stft"), ("Mul", ["c", "c"], ["y"])], {"x": [1, 8, 8, 8]}, ["y"], {"w": W}
    )
    assert q.assign(squared)["stft"] is None


def test_exclude_by_name_and_by_type(build, feeds):
    nodes = [("Conv", ["x", "w"], ["c"], PAD, "first"), ("Conv", ["c", "w"], ["y"], PAD, "second")]
    model = build(nodes, {"x": [1, 8, 8, 8]}, ["y"], {"w": W})
    data = feeds(model)
    assert q.fusion_report(run(model, data, exclude=["first"])).integer == {"QLinearConv": 1}
    assert set(q.assign(model, exclude=["Conv"]).values()) == {None}
    with pytest.raises(UsageError) as e:
        q.assign(model, exclude=["sec"])
    assert "second" in e.value.fix


def test_unknown_engine_and_old_opset(build, feeds):
    with pytest.raises(MissingError):
        rules("nothing")
    nodes = [("Conv", ["x", "w"], ["y"], PAD)]
    model = build(nodes, {"x": [1, 8, 8, 8]}, ["y"], {"w": W}, opset=12)
    ranges = q.Ranges({"x": (-1, 1), "y": (-1, 1)})
    with pytest.raises(UnsupportedError):
        q.quantize(model, ranges, q.assign(model))


def test_hardswish_range_is_cut_where_it_is_zero(build, feeds):
    model = between(build, [("HardSwish", ["a"], ["b"])], {})
    data = feeds(model, scale=5.0)
    quantized = run(model, data)
    conv = next(n for n in quantized.graph if n.op_type == "QuantizeLinear" and n.inputs[0].name == "a")
    scale, zero = (conv.inputs[i].const_value.numpy() for i in (1, 2))
    assert -3.1 < -float(scale) * int(zero) < -2.9
    assert db(model, quantized, data) > 25


@pytest.mark.parametrize(
    "scheme",
    [q.Scheme(activation="int8", symmetric_activation=True), q.Scheme(per_channel=False), q.Scheme(weight_bits=7)],
)
def test_other_schemes(build, feeds, scheme):
    model = between(build, OWN_SCALE["Add"][0], {})
    data = feeds(model)
    quantized = run(model, data, scheme=scheme)
    assert db(model, quantized, data) > 18
    if scheme.activation == "uint8":  # onnxruntime runs signed activations in integers on ARM only
        assert q.fusion_report(quantized).unfused == ()
