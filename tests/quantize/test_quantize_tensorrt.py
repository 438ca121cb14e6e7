"""TensorRT's rules hold in what is written, and symmetric int8 scored as uint8 is the very same arithmetic."""

import importlib.util

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from edgec import data, frontends, passes
from edgec import quantize as q
from edgec.errors import UsageError
from edgec.quantize import layers
from edgec.quantize.placement.centre import centre
from edgec.quantize.session import Session
from edgec.quantize.symmetric import symmetric_to_u8


def residual(build, *, bias=True, clip=False):
    """A stem, a block with a residual Add, and a classifier."""
    rng = np.random.default_rng(1)
    shapes = {"w0": (32, 3, 3, 3), "w1": (32, 32, 1, 1), "w2": (32, 32, 3, 3), "w3": (10, 32)}
    constants = {k: rng.normal(0, 0.1, s).astype(np.float32) for k, s in shapes.items()}
    constants |= {"b1": rng.normal(0, 0.2, 32).astype(np.float32), "flat": np.array([0, -1])}
    constants |= {"low": np.float32(0), "high": np.float32(6)}
    act = ("Clip", ["low", "high"]) if clip else ("Relu", [])
    nodes = [
        ("Conv", ["x", "w0"], ["a"], {"pads": [1] * 4}, "stem"),
        (act[0], ["a", *act[1]], ["ar"]),
        ("Conv", ["ar", "w1", *(["b1"] if bias else [])], ["b"], {}, "narrow"),
        (act[0], ["b", *act[1]], ["br"]),
        ("Conv", ["br", "w2"], ["c"], {"pads": [1] * 4}, "block"),
        ("Add", ["c", "br"], ["s"], {}, "sum"),
        ("GlobalAveragePool", ["s"], ["g"]),
        ("Reshape", ["g", "flat"], ["f"]),
        ("Gemm", ["f", "w3"], ["y"], {"transB": 1}, "classify"),
    ]
    return build(nodes, {"x": [1, 3, 12, 12]}, ["y"], constants)


def lint(model):
    """What TensorRT's parser refuses, and what its builder wouldn't fuse."""
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = layers.constant(node.inputs[2])
            assert zero.dtype == np.int8 and not zero.any(), node.name
        if node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2:
            assert layers.constant(node.inputs[2]).dtype == np.float32
    for output in model.graph.outputs:
        assert output.producer().op_type not in ("QuantizeLinear", "DequantizeLinear")


def dequantized(node, i):
    producer = node.inputs[i].producer()
    return producer is not None and producer.op_type == "DequantizeLinear"


@pytest.mark.parametrize("bias", [True, False])
def test_rules_of_the_parser_hold(build, feeds, bias):
    model = residual(build, bias=bias)
    made = q.quantize_with_data(model, feeds(model, 12), placement="tensorrt").model
    lint(made)
    nodes = {n.name: n for n in made.graph}
    assert not dequantized(nodes["stem"], 0) and layers.constant(nodes["stem"].inputs[1]).dtype == np.float32
    assert not dequantized(nodes["classify"], 0)  # ten outputs: the head stays float
    for name in ("narrow", "block"):
        assert dequantized(nodes[name], 0) and dequantized(nodes[name], 1), name
        weight = nodes[name].inputs[1].producer()
        assert layers.constant(weight.inputs[0]).dtype == np.int8  # stored as integers: the file is small
    Session(made)


def sums(kind):
    """A sum of two convolutions' results, or of one and its input, and a layer behind."""
    rng = np.random.default_rng(2)
    w = {f"w{i}": rng.normal(0, 0.1, (32, 32, 3, 3)).astype(np.float32) for i in range(4)}
    operands = {"identity": ["a", "b"], "two layers": ["side", "b"], "activation between": ["a", "br"]}[kind]
    nodes = [
        ("Conv", ["x", "w0"], ["a"], {"pads": [1] * 4}),
        ("Conv", ["a", "w1"], ["b"], {"pads": [1] * 4}, "last"),
        *([("Conv", ["a", "w2"], ["side"], {"pads": [1] * 4}, "side")] if kind == "two layers" else []),
        *([("Relu", ["b"], ["br"])] if kind == "activation between" else []),
        ("Add", operands, ["s"], {}, "sum"),
        ("Conv", ["s", "w3"], ["y"], {"pads": [1] * 4}),
    ]  # fmt: skip
    return nodes, {"x": [1, 32, 8, 8]}, w


@pytest.mark.parametrize(
    ("kind", "read"), [("identity", (True, False)), ("two layers", (False, True)), ("activation between", (True, True))]
)
def test_a_residual_add_joins_the_last_layer_and_its_other_operand_is_quantized(build, feeds, kind, read):
    nodes, inputs, w = sums(kind)
    used = {i for n in nodes for i in n[1]}
    model = build(nodes, inputs, ["y"], {k: v for k, v in w.items() if k in used})
    made = q.quantize_with_data(model, feeds(model), placement="tensorrt", effort="plain").model
    add = next(n for n in made.graph if n.name == "sum")
    assert (dequantized(add, 0), dequantized(add, 1)) == read
    assert add.outputs[0].consumers()[0].op_type == "QuantizeLinear"
    lint(made)


@pytest.mark.parametrize(("outputs", "inner"), [(10, False), (64, True)])
def test_a_narrow_head_stays_float(build, feeds, outputs, inner):
    rng = np.random.default_rng(4)
    w = {"w0": rng.normal(0, 0.2, (32, 64)), "w1": rng.normal(0, 0.2, (outputs, 32))}
    nodes = [
        ("Gemm", ["x", "w0"], ["h"], {"transB": 1}, "inner"),
        ("Relu", ["h"], ["r"]),
        ("Gemm", ["r", "w1"], ["l"], {"transB": 1}, "head"),
        ("Softmax", ["l"], ["y"]),
    ]
    model = build(nodes, {"x": [1, 64]}, ["y"], {k: v.astype(np.float32) for k, v in w.items()})
    made = q.quantize_with_data(model, feeds(model), placement="tensorrt", effort="plain").model
    named = {n.name: n for n in made.graph}
    assert dequantized(named["inner"], 0) and dequantized(named["head"], 0) is inner


@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "integer"),
    [
        (16, 16, 1, False),
        (16, 24, 1, False),
        (16, 32, 1, True),
        (24, 24, 1, True),
        (33, 8, 1, False),
        (64, 24, 1, True),
        (32, 32, 16, True),
    ],
)
def test_layers_that_padding_to_tensor_cores_makes_slower_stay_float(build, feeds, channels, outputs, groups, integer):
    rng = np.random.default_rng(6)
    w = {"w0": (channels, 64, 1, 1), "w1": (outputs, channels // groups, 3, 3), "w2": (64, outputs, 1, 1)}
    nodes = [
        ("Conv", ["x", "w0"], ["a"], {}, "before"),
        ("Conv", ["a", "w1"], ["b"], {"group": groups}, "asked"),
        ("Conv", ["b", "w2"], ["y"], {}, "behind"),
    ]
    model = build(nodes, {"x": [1, 64, 8, 8]}, ["y"], {k: rng.normal(0, 1, s).astype(np.float32) for k, s in w.items()})
    made = q.quantize_with_data(model, feeds(model), placement="tensorrt", effort="plain").model
    named = {n.name: n for n in made.graph}
    assert dequantized(named["asked"], 0) is integer and dequantized(named["asked"], 1) is integer
    assert dequantized(named["before"], 0)


def test_asymmetric_schemes_are_refused(build, feeds):
    model = residual(build)
    with pytest.raises(UsageError, match="symmetric"):
        q.quantize_with_data(model, feeds(model), placement="tensorrt", scheme=q.Scheme())


@settings(max_examples=40)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.floats(2.0**-20, 2.0**10, width=32),
)
def test_uint8_with_zero_point_128_is_int8_with_0(values, scale):
    v = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([len(values)]))
    consts = []
    for name, array in (("s", np.float32(scale)), ("z", np.int8(0))):
        t = ir.Tensor(np.asarray(array), name=name)
        consts.append(ir.Value(name=name, type=ir.TensorType(t.dtype), shape=t.shape, const_value=t))
    quantize = ir.Node("", "QuantizeLinear", [v, *consts])
    dequantize = ir.Node("", "DequantizeLinear", [quantize.outputs[0], *consts])
    quantize.outputs[0].name, y = "i", dequantize.outputs[0]
    y.name, y.type, y.shape = "y", v.type, v.shape
    graph = ir.Graph([v], [y], nodes=[quantize, dequantize], initializers=consts, opset_imports={"": 21}, name="g")
    model = ir.Model(graph, ir_version=10)
    rewritten = symmetric_to_u8(model)
    assert {n.inputs[2].dtype for n in rewritten.graph} == {ir.DataType.UINT8}
    x = np.array(values, np.float32)
    a, b = (ReferenceEvaluator(ir.to_proto(m)).run(None, {"x": x})[0] for m in (model, rewritten))
    assert (a == b).all()
    assert (
        Session(model, optimize=False).run({"x": x})[0] == Session(rewritten, optimize=False).run({"x": x})[0]
    ).all()


def test_whole_model_as_uint8_gives_the_same_floats(build, feeds):
    model = residual(build)
    made = q.quantize_with_data(model, feeds(model), placement="tensorrt").model
    one, other = Session(made, optimize=False), Session(symmetric_to_u8(made), optimize=False)
    for feed in feeds(model, 3):
        assert (one.run(feed)[0] == other.run(feed)[0]).all()


def test_weights_and_asymmetric_activations_are_left_alone(build, feeds):
    model = residual(build)
    made = q.quantize_with_data(model, feeds(model), effort="plain").model
    before = ir.to_proto(made).SerializeToString(deterministic=True)
    assert ir.to_proto(symmetric_to_u8(made)).SerializeToString(deterministic=True) == before


def test_centring_keeps_what_the_model_computes(build, feeds):
    model = residual(build, clip=True)
    moved = centre(model)
    names = {n.outputs[0].name: n for n in moved.graph}
    unbounded = residual(build)
    assert centre(unbounded) is unbounded
    assert layers.clip_bounds(names["ar"]) == (-3, 3)  # read by a 1×1 convolution alone
    assert layers.clip_bounds(names["br"]) == (0, 6)  # read by a padded one, and by the Add
    assert layers.clip_bounds(next(n for n in model.graph if n.outputs[0].name == "ar")) == (0, 6)
    a, b = Session(model), Session(moved)
    for feed in feeds(model, 4, scale=3.0):
        np.testing.assert_allclose(a.run(feed)[0], b.run(feed)[0], atol=2e-5)


def test_centring_goes_through_means_to_a_gemm(build, feeds):
    rng = np.random.default_rng(5)
    constants = {
        "w": rng.normal(0, 1, (8, 4, 3, 3)).astype(np.float32),
        "v": rng.normal(0, 1, (8, 3)).astype(np.float32),
        "low": np.float32(0), "high": np.float32(6), "flat": np.array([0, -1]),
    }  # fmt: skip
    nodes = [
        ("Conv", ["x", "w"], ["a"]),
        ("Clip", ["a", "low", "high"], ["b"]),
        ("GlobalAveragePool", ["b"], ["c"]),
        ("Reshape", ["c", "flat"], ["d"]),
        ("Gemm", ["d", "v"], ["y"]),
    ]
    model = build(nodes, {"x": [1, 4, 9, 9]}, ["y"], constants)
    moved = centre(model)
    assert {layers.clip_bounds(n) for n in moved.graph if n.op_type == "Clip"} == {(-3, 3)}
    a, b = Session(model), Session(moved)
    for feed in feeds(model, 4, scale=3.0):
        np.testing.assert_allclose(a.run(feed)[0], b.run(feed)[0], atol=2e-5)


@pytest.mark.parametrize(("name", "bar", "agree"), [("resnet8_cifar10", 30, 0.95), ("efficientnet_lite0", 21, 0.9)])
def test_zoo_by_tensorrts_rules(zoo, name, bar, agree):
    folder = zoo(name)
    model = frontends.load(folder / "model.onnx").model
    dataset = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    passes.run(model)
    made = q.quantize_with_data(model, dataset.select(0, None, 10), placement="tensorrt")
    assert made.correction.kept
    lint(made.model)
    spec = importlib.util.spec_from_file_location(f"trt_{name}", folder / "eval.py")
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    a, b = Session(model), Session(symmetric_to_u8(made.model))
    pairs = [(a.run(f), b.run(f)) for f in case.feeds("eval", 40)]
    assert data.sqnr_db([p[0][0] for p in pairs], [p[1][0] for p in pairs]) > bar
    assert data.agreement([p[0] for p in pairs], [p[1] for p in pairs]).value >= agree
