"""Each operator that is written for ncnn gives ONNX Runtime's answer; what ncnn can't do is refused with the node."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from edgec_runtime.engines import ncnn
from edgec_targets.emitters.ncnn import ops, registry
from edgec_targets.emitters.ncnn.conversion import convert
from tests.targets.ncnn_cases import compare, model, single

needs_ncnn = pytest.mark.skipif(ncnn.library() is None, reason="ncnn is not installed (pip install 'edgec[ncnn]')")
RNG = np.random.default_rng(7)


def w(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def i(*numbers):
    return np.array(numbers, np.int64)


IMAGE = (1, 8, 9, 10)
CASES = {
    "relu": single("Relu", [IMAGE]),
    "leaky": single("LeakyRelu", [IMAGE], alpha=0.3),
    "sigmoid": single("Sigmoid", [(1, 7)]),
    "tanh": single("Tanh", [(3, 5)]),
    "elu": single("Elu", [IMAGE], alpha=0.7),
    "celu": single("Celu", [IMAGE], alpha=0.7),
    "selu": single("Selu", [IMAGE]),
    "hardsigmoid": single("HardSigmoid", [IMAGE], alpha=0.3, beta=0.4),
    "hardswish": single("HardSwish", [IMAGE]),
    "gelu": single("Gelu", [IMAGE]),
    "gelu tanh": single("Gelu", [IMAGE], approximate="tanh"),
    "softplus": single("Softplus", [IMAGE]),
    "mish": single("Mish", [IMAGE]),
    "softsign": single("Softsign", [IMAGE]),
    "erf": single("Erf", [IMAGE]),
    "abs": single("Abs", [IMAGE]),
    "neg": single("Neg", [IMAGE]),
    "exp": single("Exp", [IMAGE]),
    "sin": single("Sin", [IMAGE]),
    "cos": single("Cos", [IMAGE]),
    "floor": single("Floor", [IMAGE]),
    "ceil": single("Ceil", [IMAGE]),
    "round": single("Round", [(1, 4, 4)]),
    "clip": single("Clip", [IMAGE], [np.float32(-0.5), np.float32(1.5)]),
    "clip above": single("Clip", [IMAGE], ["", np.float32(1)]),
    "clip below": single("Clip", [IMAGE], [np.float32(-1)]),
    "clip at infinity": single("Clip", [IMAGE], [np.float32(0), np.float32(np.inf)]),
    "thresholded": single("ThresholdedRelu", [IMAGE], alpha=0.5),
    "prelu one": single("PRelu", [IMAGE], [w(1)]),
    "prelu channels": single("PRelu", [IMAGE], [w(8, 1, 1)]),
    "square": single("Pow", [IMAGE], [np.float32(2)]),
    "cube": single("Pow", [IMAGE], [np.float32(3)]),
    "dropout": single("Dropout", [IMAGE]),
    "identity": single("Identity", [IMAGE]),
    "add": single("Add", [IMAGE, IMAGE]),
    "sub broadcast row": single("Sub", [IMAGE, (10,)]),
    "sub broadcast column": single("Sub", [(9, 1), IMAGE]),
    "mul channels": single("Mul", [IMAGE, (1, 8, 1, 1)]),
    "div by channels": single("Div", [(8, 1, 1), IMAGE], opset=14),
    "add both ways": single("Add", [(8, 1, 1), (9, 10)]),
    "add square": single("Add", [(1, 4, 4, 4), (4,)]),
    "add matrix": single("Add", [(6, 5), (1, 5)]),
    "add column": single("Add", [(6, 5), (6, 1)]),
    "add constant": single("Add", [IMAGE], [np.float32(0.25)]),
    "constant minus": model([helper.make_node("Sub", ["k", "x"], ["y"])], {"x": IMAGE}, ["y"], {"k": np.float32(1)}),
    "constant over": model(
        [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Div", ["k", "e"], ["y"])],
        {"x": IMAGE}, ["y"], {"k": np.float32(1)},
    ),
    "mul constant channels": single("Mul", [IMAGE], [w(1, 8, 1, 1)]),
    "add constant image": single("Add", [IMAGE], [w(*IMAGE)]),
    "add constant pixel": single("Add", [IMAGE], [w(9, 10)]),
    "twice": model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": IMAGE}, ["y"]),
    "max of three": single("Max", [IMAGE, (1, 8, 1, 1), (10,)]),
    "min": single("Min", [IMAGE, IMAGE]),
    "sum": single("Sum", [IMAGE, IMAGE, IMAGE]),
    "mean": single("Mean", [IMAGE, IMAGE]),
    "vectors": single("Mul", [(1, 8, 1, 1), (1, 8, 1, 1)]),
    "conv 3x3": single("Conv", [IMAGE], [w(16, 8, 3, 3), w(16)], pads=[1, 1, 1, 1]),
    "conv winograd": single("Conv", [(1, 16, 24, 24)], [w(32, 16, 3, 3), w(32)], pads=[1, 1, 1, 1]),
    "conv strides": single("Conv", [IMAGE], [w(5, 8, 3, 2)], strides=[2, 3], pads=[0, 1, 2, 0]),
    "conv dilated": single("Conv", [IMAGE], [w(4, 8, 3, 3), w(4)], dilations=[2, 1], pads=[2, 1, 2, 1]),
    "conv same upper": single("Conv", [IMAGE], [w(4, 8, 4, 4), w(4)], auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv same lower": single("Conv", [IMAGE], [w(4, 8, 4, 4), w(4)], auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv valid": single("Conv", [IMAGE], [w(4, 8, 4, 4), w(4)], auto_pad="VALID"),
    "conv depthwise": single("Conv", [IMAGE], [w(8, 1, 3, 3), w(8)], group=8, pads=[1, 1, 1, 1]),
    "conv depthwise 5x5": single("Conv", [IMAGE], [w(8, 1, 5, 5)], group=8, pads=[2, 2, 2, 2], strides=[2, 2]),
    "conv multiplied": single("Conv", [IMAGE], [w(16, 1, 3, 3), w(16)], group=8),
    "conv groups": single("Conv", [IMAGE], [w(12, 4, 3, 3), w(12)], group=2, pads=[1, 1, 1, 1]),
    "conv pixel": single("Conv", [(1, 8, 1, 1)], [w(5, 8, 1, 1), w(5)]),
    "conv 1d": single("Conv", [(1, 6, 20)], [w(4, 6, 3), w(4)], strides=[2], pads=[1, 0]),
    "conv 1d depthwise": single("Conv", [(1, 6, 20)], [w(6, 1, 3), w(6)], group=6, pads=[1, 1]),
    "transposed": single("ConvTranspose", [IMAGE], [w(8, 4, 3, 3), w(4)], strides=[2, 2]),
    "transposed padded": single(
        "ConvTranspose", [IMAGE], [w(8, 4, 4, 3), w(4)], strides=[2, 2], pads=[1, 0, 1, 1], output_padding=[1, 0]
    ),
    "transposed beyond": single("ConvTranspose", [IMAGE], [w(8, 4, 2, 2)], strides=[3, 3], output_padding=[2, 1]),
    "transposed dilated": single("ConvTranspose", [IMAGE], [w(8, 4, 3, 3), w(4)], dilations=[2, 2], pads=[1, 1, 1, 1]),
    "transposed groups": single("ConvTranspose", [IMAGE], [w(8, 3, 3, 3), w(6)], group=2, strides=[2, 2]),
    "transposed depthwise": single("ConvTranspose", [IMAGE], [w(8, 1, 3, 3), w(8)], group=8, strides=[2, 2]),
    "transposed 1d": single("ConvTranspose", [(1, 6, 9)], [w(6, 4, 3), w(4)], strides=[2]),
    "matmul": single("MatMul", [(1, 12)], [w(12, 5)]),
    "matmul rows": single("MatMul", [(1, 6, 12)], [w(12, 5)]),
    "matmul both": single("MatMul", [(1, 3, 6, 4), (1, 3, 4, 5)]),
    "matmul two": single("MatMul", [(6, 4), (4, 5)]),
    "matmul constant left": model(
        [helper.make_node("MatMul", ["k", "x"], ["y"])], {"x": (4, 5)}, ["y"], {"k": w(3, 4)}
    ),
    "gemm": single("Gemm", [(1, 12)], [w(12, 5), w(5)]),
    "gemm transposed": single("Gemm", [(3, 12)], [w(5, 12), w(5)], transB=1, alpha=0.5, beta=2.0),
    "gemm one bias": single("Gemm", [(3, 12)], [w(12, 5), w(1)]),
    "max pool": single("MaxPool", [IMAGE], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
    "max pool up": single("MaxPool", [IMAGE], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max pool 1d": single("MaxPool", [(1, 6, 20)], kernel_shape=[3], strides=[2], pads=[1, 1]),
    "average pool": single("AveragePool", [IMAGE], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 0, 1]),
    "average pool counting": single(
        "AveragePool", [IMAGE], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1
    ),
    "average pool up": single("AveragePool", [IMAGE], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "average pool 1d": single("AveragePool", [(1, 6, 20)], kernel_shape=[4], strides=[4]),
    "global average": single("GlobalAveragePool", [IMAGE]),
    "global max": single("GlobalMaxPool", [IMAGE]),
    "global average 1d": single("GlobalAveragePool", [(1, 6, 20)]),
    "batch norm": single("BatchNormalization", [IMAGE], [w(8), w(8), w(8), np.abs(w(8)) + 0.1], epsilon=1e-3),
    "instance norm": single("InstanceNormalization", [IMAGE], [w(8), w(8)]),
    "instance norm 1d": single("InstanceNormalization", [(1, 6, 20)], [w(6), w(6)]),
    "group norm": single("GroupNormalization", [IMAGE], [w(8), w(8)], num_groups=4),
    "layer norm": single("LayerNormalization", [(1, 6, 12)], [w(12), w(12)]),
    "layer norm two axes": single("LayerNormalization", [(1, 6, 3, 4)], [w(3, 4), w(3, 4)], axis=2),
    "layer norm no bias": single("LayerNormalization", [(1, 6, 12)], [w(12)], epsilon=1e-3),
    "lrn": single("LRN", [IMAGE], size=3, alpha=0.01, beta=0.6, bias=2.0),
    "softmax": single("Softmax", [(1, 10)]),
    "softmax channels": single("Softmax", [IMAGE], axis=1),
    "softmax rows": single("Softmax", [(1, 3, 6, 5)], axis=2),
    "log softmax": single("LogSoftmax", [(4, 10)], axis=-1),
    "l2 normalized": single("LpNormalization", [(4, 10)], axis=1, p=2),
    "l1 normalized": single("LpNormalization", [IMAGE], axis=1, p=1),
    "nearest": single("Resize", [IMAGE], ["", np.array([1, 1, 2, 2], np.float32)], mode="nearest",
                      coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    "nearest half pixel": single("Resize", [IMAGE], ["", np.array([1, 1, 2, 2], np.float32)], mode="nearest"),
    "nearest three": single("Resize", [IMAGE], ["", np.array([1, 1, 3, 3], np.float32)], mode="nearest"),
    "linear": single("Resize", [IMAGE], ["", np.array([1, 1, 2, 2], np.float32)], mode="linear"),
    "linear size": single("Resize", [IMAGE], ["", "", i(1, 8, 15, 7)], mode="linear"),
    "linear corners": single("Resize", [IMAGE], ["", np.array([1, 1, 2, 2], np.float32)], mode="linear",
                             coordinate_transformation_mode="align_corners"),
    "reshape": single("Reshape", [IMAGE], [i(1, 16, 45)]),
    "flatten": single("Flatten", [IMAGE]),
    "unsqueeze": single("Unsqueeze", [(3, 5)], [i(0, 3)]),
    "squeeze": single("Squeeze", [(1, 3, 1, 5)], [i(2)]),
    "to channels last": single("Transpose", [IMAGE], perm=[0, 2, 3, 1]),
    "to channels first": single("Transpose", [(1, 9, 10, 3)], perm=[0, 3, 1, 2]),
    "transpose": single("Transpose", [(5, 7)]),
    "transpose five": single("Transpose", [(1, 2, 4, 3, 5)], perm=[0, 2, 1, 3, 4]),
    "transpose four": single("Transpose", [(2, 3, 4, 5)], perm=[3, 1, 0, 2]),
    "transpose nothing": single("Transpose", [(1, 6, 1, 1)], perm=[0, 2, 3, 1]),
    "concat channels": single("Concat", [IMAGE, (1, 3, 9, 10)], axis=1),
    "concat last": single("Concat", [IMAGE, (1, 8, 9, 3)], axis=-1),
    "concat batch": single("Concat", [(1, 4), (1, 4)], axis=0),
    "slice": single("Slice", [IMAGE], [i(2, 1), i(7, 100), i(1, 3)]),
    "slice from the end": single("Slice", [IMAGE], [i(-3), i(-1), i(2)]),
    "slice in steps": single("Slice", [(1, 8, 8, 10)], [i(0, 1), i(8, 10), i(2, 3), i(2, 3)]),
    "gather": single("Gather", [IMAGE], [i(2, 3, 0)], axis=1),
    "gather one": single("Gather", [IMAGE], [np.int64(-1)], axis=2),
    "pad": single("Pad", [IMAGE], [i(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)]),
    "pad channels": single("Pad", [IMAGE], [i(0, 1, 0, 0, 0, 2, 0, 0)]),
    "pad reflect": single("Pad", [IMAGE], [i(0, 0, 1, 2, 0, 0, 3, 0)], mode="reflect"),
    "pad edge": single("Pad", [(1, 6, 9)], [i(0, 0, 2, 0, 0, 1)], mode="edge"),
    "reduce mean image": single("ReduceMean", [IMAGE], [i(2, 3)]),
    "reduce mean last": single("ReduceMean", [(1, 6, 12)], [i(-1)], keepdims=0),
    "reduce sum": single("ReduceSum", [IMAGE], [i(1)], keepdims=0),
    "reduce max": single("ReduceMax", [IMAGE], [i(3)]),
    "reduce all": single("ReduceMin", [IMAGE]),
    "reduce l2": single("ReduceL2", [(1, 12)], [i(1)]),
    "depth to space": single("DepthToSpace", [IMAGE], blocksize=2),
    "depth to space crd": single("DepthToSpace", [IMAGE], blocksize=2, mode="CRD"),
    "space to depth": single("SpaceToDepth", [(1, 3, 8, 10)], blocksize=2),
    "tile": single("Tile", [IMAGE], [i(1, 2, 1, 3)]),
    "expand": single("Expand", [(1, 8, 1, 1)], [i(1, 8, 3, 4)]),
}  # fmt: skip


@needs_ncnn
@pytest.mark.parametrize("name", CASES)
def test_an_operator(name, tmp_path):
    compare(CASES[name], tmp_path)


def test_each_operator_has_a_case():
    """Those apart that random numbers don't suit, or that have tests of their own."""
    ops.load()
    others = {"LSTM", "GRU", "RNN", "Split", "Cast", "Swish", "Upsample", "Sqrt", "Log", "Reciprocal", "Tan", "Asin",
              "Acos", "Atan"}  # fmt: skip
    covered = {node.op_type for made in CASES.values() for node in made.graph}
    reductions = {name for name in registry.OPERATORS if name.startswith("Reduce")}
    assert set(registry.OPERATORS) - reductions == (covered - reductions) | others


@needs_ncnn
@pytest.mark.parametrize("op", ["Sqrt", "Log", "Reciprocal", "Tan", "Asin", "Acos", "Atan"])
def test_an_operator_of_positive_numbers(op, tmp_path):
    compare(single(op, [IMAGE]), tmp_path, low=0.1, high=0.9)


@needs_ncnn
@pytest.mark.parametrize("op", ["Prod", "L1", "SumSquare", "LogSum", "LogSumExp", "Sum", "Mean", "Max"])
@pytest.mark.parametrize("axes", [(0,), (1, 2), (1,), (0, 2)])
def test_reductions(op, axes, tmp_path):
    compare(single(f"Reduce{op}", [(4, 5, 6)], [i(*axes)], keepdims=0, opset=18), tmp_path, low=0.5)


@needs_ncnn
def test_split_and_unequal_split(tmp_path):
    nodes = [
        helper.make_node("Split", ["x", "sizes"], ["a", "b", "c"], axis=1),
        helper.make_node("Mul", ["a", "c"], ["y"]),
        helper.make_node("Relu", ["b"], ["z"]),
    ]
    compare(model(nodes, {"x": IMAGE}, ["y", "z"], {"sizes": i(3, 2, 3)}), tmp_path)


@needs_ncnn
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("states", [False, True])
def test_recurrent_layers(kind, direction, states, tmp_path):
    gates, count = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 1 + (direction == "bidirectional")
    constants = {"w": w(count, gates * 6, 5), "r": w(count, gates * 6, 6), "b": w(count, 2 * gates * 6)}
    inputs = {"x": (7, 1, 5)}
    names = ["x", "w", "r", "b"]
    outputs = ["y"]
    if states:
        inputs |= dict.fromkeys(("h", "c")[: 1 + (kind == "LSTM")], (count, 1, 6))
        names += ["", *list(inputs)[1:]]
        outputs += ["hn", "cn"][: len(inputs) - 1]
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    node = helper.make_node(kind, names, outputs, hidden_size=6, direction=direction, **more)
    compare(model([node], inputs, outputs, constants), tmp_path, least=80.0)


@needs_ncnn
def test_outputs_that_nobody_computes(tmp_path):
    """An input that is an output, one value under two names, and a value that is read on as well."""
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("Identity", ["y"], ["again"]),
        helper.make_node("Add", ["y", "x"], ["z"]),
    ]
    compare(model(nodes, {"x": (1, 3, 5, 7)}, ["same", "y", "again", "z"]), tmp_path)


@needs_ncnn
def test_what_comes_after_a_layer_becomes_part_of_it(tmp_path):
    """Convolution, batch norm, bias and activation are one layer; not where somebody else reads in between."""
    constants = {"w": w(6, 3, 3, 3), "s": w(6), "o": w(6), "m": w(6), "v": np.abs(w(6)) + 0.1, "k": w(6, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "s", "o", "m", "v"], ["b"]),
        helper.make_node("Add", ["b", "k"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    together = compare(model(nodes, {"x": (1, 3, 8, 8)}, ["y"], constants), tmp_path)
    assert together.layers == {"Input": 1, "Convolution": 1}
    apart = compare(model(nodes, {"x": (1, 3, 8, 8)}, ["y", "b"], constants), tmp_path)
    assert apart.layers == {"Input": 1, "Convolution": 1, "BinaryOp": 1, "MemoryData": 1, "ReLU": 1}


@needs_ncnn
@pytest.mark.parametrize("after", [("Clip", np.float32(-1), np.float32(2)), ("LeakyRelu",), ("HardSwish",),
                                   ("Sigmoid",), ("Mish",), ("Relu",)])  # fmt: skip
@pytest.mark.parametrize("first", ["Conv", "Gemm", "ConvTranspose"])
def test_activations_become_part_of_the_layer(first, after, tmp_path):
    kernels = {"Conv": w(4, 3, 3, 3), "Gemm": w(12, 4), "ConvTranspose": w(3, 4, 3, 3)}
    constants = {"w": kernels[first], "b": w(4), **{f"k{n}": value for n, value in enumerate(after[1:])}}
    nodes = [
        helper.make_node(first, ["x", "w", "b"], ["a"]),
        helper.make_node(after[0], ["a", *(f"k{n}" for n in range(len(after) - 1))], ["y"]),
    ]
    x = (1, 12) if first == "Gemm" else (1, 3, 8, 8)
    written = compare(model(nodes, {"x": x}, ["y"], constants), tmp_path, least=80.0)
    assert sum(written.layers.values()) == 2


REFUSED = {
    "batch": (single("Conv", [(2, 3, 8, 8)], [w(4, 3, 3, 3)]), "batch of 2"),
    "3d": (single("Conv", [(1, 3, 4, 4, 4)], [w(4, 3, 3, 3, 3)]), "3 spatial axes"),
    "computed weights": (single("Conv", [(1, 3, 8, 8), (4, 3, 3, 3)]), "computed by the model"),
    "dilated pool": (single("MaxPool", [IMAGE], kernel_shape=[2, 2], dilations=[2, 2]), "dilated"),
    "five dimensions": (
        model([helper.make_node("Reshape", ["x", "s"], ["a"]),
               helper.make_node("Transpose", ["a"], ["b"], perm=[4, 3, 2, 1, 0], name="n"),
               helper.make_node("Reshape", ["b", "t"], ["y"])],
              {"x": (6, 20, 6)}, ["y"], {"s": i(2, 3, 4, 5, 6), "t": i(720)}),
        "four",
    ),
    "backwards": (single("Slice", [(4, 6)], [i(5), i(0), i(1), i(-1)]), "backwards"),
    "uneven steps": (single("Slice", [(4, 7)], [i(0), i(7), i(1), i(2)]), "every 2th"),
    "unknown": (single("Hardmax", [(1, 6)]), "no such operator"),
    "booleans": (
        model([helper.make_node("Greater", ["x", "k"], ["b"]), helper.make_node("Where", ["b", "x", "k"], ["y"])],
              {"x": (1, 4)}, ["y"], {"k": np.float32(0)}),
        "no such operator",
    ),
    "integers": (
        model([helper.make_node("Cast", ["x"], ["n"], to=7), helper.make_node("Cast", ["n"], ["y"], to=1)],
              {"x": (1, 4)}, ["y"]),
        "INT64",
    ),
    "nearest elsewhere": (
        single("Resize", [IMAGE], ["", "", i(1, 8, 13, 7)], mode="nearest"), "nearest",
    ),
    "gru": (single("GRU", [(3, 1, 4)], [w(1, 9, 4), w(1, 9, 3)], hidden_size=3), "linear_before_reset"),
    "whole softmax axis": (single("Softmax", [(1, 6)], axis=0), "one element"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_ncnn_cant_do_is_refused_naming_the_node(name):
    made, words = REFUSED[name]
    problem = convert(made).problems[0]
    assert words in problem.why and problem.operator and problem.node and problem.fix, problem


def test_a_model_must_have_fixed_float_inputs():
    free = single("Relu", [("n", 3, "h", "w")])
    assert "fixed" in convert(free).problems[0].why and "--shape x0" in convert(free).problems[0].fix
    assert not convert(single("Relu", [("n", 3, 4, 5)])).problems


def test_a_quantized_model_is_refused():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    made = model(nodes, {"x": (1, 4)}, ["y"], {"s": np.float32(0.1), "z": np.uint8(3)})
    assert "integers" in convert(made).problems[0].why


def test_only_the_first_cause_is_blamed():
    nodes = [helper.make_node("Hardmax", ["x"], ["a"], name="culprit"), helper.make_node("Relu", ["a"], ["y"])]
    assert [p.node for p in convert(model(nodes, {"x": (1, 4)}, ["y"])).problems] == ["culprit"]


def test_the_same_model_gives_the_same_bytes():
    first, again = convert(CASES["conv groups"]), convert(CASES["conv groups"])
    assert (first.param, first.bin, first.interface) == (again.param, again.bin, again.interface)
