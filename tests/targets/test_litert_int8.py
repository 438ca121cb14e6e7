"""Integers: the TFLite file gives ONNX Runtime's u8 · s8 answers bit for bit, and says where it can't."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort
from onnxruntime import quantization as q

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import Written, convert
from edgec_targets.emitters.litert.harmony import harmonize
from edgec_targets.emitters.litert.ops import whole

Parse = Callable[..., ir.Model]
Shape = tuple[int, ...]
Feeds = list[dict[str, np.ndarray]]


def quantized(proto: onnx.ModelProto, feeds: Feeds, **options: Any) -> onnx.ModelProto:
    """ONNX Runtime's own static quantization: u8 activations, s8 weights a channel."""

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    path, copy = options.pop("folder") / "int8.onnx", onnx.ModelProto()
    copy.CopyFrom(proto)  # the tool moves the weights of what it is given into files of its own
    q.quantize_static(copy, path, Reader(), **{"per_channel": True, "activation_type": q.QuantType.QUInt8, **options})
    return onnx.load(path)


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def exact(proto: onnx.ModelProto, feeds: Feeds, *, in_doubt_float: bool = True) -> Written:
    """Convert, run both on each feed, demand equal bits."""
    written = convert(ir.from_proto(proto), exact=in_doubt_float)
    assert written.data is not None, written.problems
    engine, runner = session(proto), prove.Runner(written.data)
    for feed in feeds:
        got = runner(feed)
        for output, want in zip(engine.get_outputs(), engine.run(None, feed), strict=True):
            np.testing.assert_array_equal(got[output.name], want)
    return written


def one(
    op: str, inputs: dict[str, tuple[int, ...]], weights: dict[str, np.ndarray], **attributes: Any
) -> onnx.ModelProto:
    """A float model: the operator, with a Relu behind it if `relu` is set."""
    relu = attributes.pop("relu", False)
    names = [*inputs, *weights]
    node = helper.make_node(op, names, ["m" if relu else "y"], name="op", **attributes)
    nodes = [node, helper.make_node("Relu", ["m"], ["y"])] if relu else [node]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def feeds_of(inputs: dict[str, tuple[int, ...]], count: int = 6) -> Feeds:
    return [{n: normal(*s, seed=9 * i + k) for k, (n, s) in enumerate(inputs.items())} for i in range(count)]


IMAGE = {"x": (1, 8, 9, 9)}
PAIR = {"x": (1, 8, 5, 5), "z": (1, 4, 5, 5)}
EQUAL = {"x": (1, 8, 5, 5), "z": (1, 8, 5, 5)}
LINE, ROW = {"x": (1, 4, 20)}, {"x": (1, 32)}
DENSE = {"w": normal(16, 8, 3, 3), "b": normal(16)}
EACH = {"w": normal(8, 1, 3, 3), "b": normal(8)}
SAME = [1, 1, 1, 1]
CASES: dict[str, tuple[onnx.ModelProto, dict[str, Shape], str]] = {
    "conv": (one("Conv", IMAGE, DENSE), IMAGE, "CONV_2D"),
    "conv, relu, pads": (one("Conv", IMAGE, DENSE, pads=SAME, strides=[2, 2], relu=True), IMAGE, "CONV_2D"),
    "conv without bias": (one("Conv", IMAGE, {"w": DENSE["w"]}), IMAGE, "CONV_2D"),
    "depthwise": (one("Conv", IMAGE, EACH, group=8, pads=SAME), IMAGE, "DEPTHWISE_CONV_2D"),
    "groups": (one("Conv", IMAGE, {"w": normal(12, 4, 3, 3), "b": normal(12)}, group=2), IMAGE, "CONV_2D"),
    "one axis": (one("Conv", LINE, {"w": normal(6, 4, 5), "b": normal(6)}, pads=[2, 2]), LINE, "CONV_2D"),
    "gemm": (one("Gemm", ROW, {"w": normal(10, 32), "b": normal(10)}, transB=1), ROW, "FULLY_CONNECTED"),
    "add": (one("Add", EQUAL, {}), EQUAL, "ADD"),
    "concat": (one("Concat", PAIR, {}, axis=1), PAIR, "CONCATENATION"),
    "max pool": (one("MaxPool", IMAGE, {}, kernel_shape=[3, 3], strides=[2, 2], pads=SAME), IMAGE, "MAX_POOL_2D"),
    "mean": (one("GlobalAveragePool", IMAGE, {}), IMAGE, "MEAN"),
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_between_integers_is_one_kernel_and_exact(tmp_path: Path, name: str) -> None:
    proto, inputs, code = CASES[name]
    feeds = feeds_of(inputs)
    made = quantized(proto, feeds, folder=tmp_path)
    written = exact(made, feeds)
    assert written.operators[code] == 1
    assert {*written.operators} <= {code, "QUANTIZE", "DEQUANTIZE", "TRANSPOSE", "RESHAPE", "PAD"}


def test_movers_move_integers_and_pairs_vanish(parse: Parse) -> None:
    model = parse(
        """g (float[1,4,6,6] x) => (float[1,36,4] y) <float s = {0.05}, uint8 z = {120}, int64[3] k = {1,4,36}> {
           a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = Reshape(b, k)
           d = QuantizeLinear(c, s, z) e = DequantizeLinear(d, s, z) y = Transpose<perm = [0,2,1]>(e) }"""
    )
    written = exact(ir.to_proto(model), feeds_of({"x": (1, 4, 6, 6)}))
    assert written.operators["QUANTIZE"] == written.operators["DEQUANTIZE"] == 1


def test_upscaling_moves_integers(parse: Parse) -> None:
    model = parse(
        """g (float[1,4,6,6] x) => (float[1,4,12,12] y) <float s = {0.05}, uint8 z = {120}, int64[4] k = {1,4,12,12}> {
           a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = Resize<mode = "nearest">(b, , , k)
           d = QuantizeLinear(c, s, z) y = DequantizeLinear(d, s, z) }"""
    )
    written = exact(ir.to_proto(model), feeds_of({"x": (1, 4, 6, 6)}))
    assert written.operators["QUANTIZE"] == written.operators["DEQUANTIZE"] == 1
    assert written.operators["RESIZE_NEAREST_NEIGHBOR"] == 1


def test_q_and_dq_that_fit_nowhere_stay(parse: Parse) -> None:
    model = parse(
        """g (float[1,8] x) => (float[1,8] y) <float s = {0.05}, uint8 z = {120}, float t = {0.01}, uint8 u = {3}> {
           a = QuantizeLinear(x, s, z) b = DequantizeLinear(a, s, z) c = Floor(b)
           d = QuantizeLinear(c, t, u) y = DequantizeLinear(d, t, u) }"""
    )
    written = exact(ir.to_proto(model), feeds_of({"x": (1, 8)}))
    assert written.operators == {"QUANTIZE": 2, "DEQUANTIZE": 2, "FLOOR": 1}


def test_the_bias_is_copied_verbatim(tmp_path: Path) -> None:
    proto = one("Conv", IMAGE, {"w": normal(16, 8, 3, 3), "b": normal(16)})
    made = quantized(proto, feeds_of(IMAGE), folder=tmp_path)
    (bias,) = [a for i in made.graph.initializer if (a := numpy_helper.to_array(i)).dtype == np.int32 and a.any()]
    written = convert(ir.from_proto(made))
    assert written.data is not None and bias.tobytes() in written.data


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_integers_at_the_border_keep_their_type(parse: Parse, kind: str) -> None:
    z = 120 if kind == "uint8" else -8
    model = parse(
        f"""g ({kind}[1,4] x) => ({kind}[1,4] y)
           <float s = {{0.05}}, {kind} z = {{{z}}}, float t = {{0.1}}, {kind} u = {{{z}}}> {{
           a = DequantizeLinear(x, s, z) b = Tanh(a) y = QuantizeLinear(b, t, u) }}"""
    )
    written = convert(model)
    assert written.data is not None
    data = np.array([[0, 3, 100, 127]], kind)
    got = prove.run(written.data, {"x": data})["y"]
    np.testing.assert_array_equal(got, session(ir.to_proto(model)).run(None, {"x": data})[0])


def test_weights_alone_in_integers_are_widened_at_load(parse: Parse) -> None:
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (16, 64), dtype=np.int8)
    text = """g (float[1,64] x, int8[16,64] w, float[16] s) => (float[1,16] y) {
              d = DequantizeLinear<axis = 0>(w, s) y = Gemm<transB = 1>(x, d) }"""
    model = parse(text)
    for value, data in zip(list(model.graph.inputs)[1:], (w, np.abs(normal(16)) * 0.01 + 0.001), strict=True):
        model.graph.inputs.remove(value)
        value.const_value = ir.Tensor(np.asarray(data), name=value.name)
        model.graph.register_initializer(value)
    # Beside a large product in float, so that it isn't the model's work: see the next test.
    written = convert(model)
    assert written.data is not None and len(written.data) < 64 * 16 * 4
    x = normal(1, 64)
    want = session(ir.to_proto(model)).run(None, {"x": x})[0]
    got = prove.run(written.data, {"x": x})["y"]
    assert np.linalg.norm(got - want) < 0.02 * np.linalg.norm(want)


FORMS: dict[str, dict[str, Any]] = {
    "one scale for all weights": {"per_channel": False},
    "signed activations": {"activation_type": q.QuantType.QInt8},
    "symmetric activations": {"activation_type": q.QuantType.QInt8, "extra_options": {"ActivationSymmetric": True}},
    "weights quantized by the model": {"extra_options": {"AddQDQPairToWeight": True}},
    "seven bits": {"reduce_range": True},
    "quantized operators": {"quant_format": q.QuantFormat.QOperator},
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_quantized_models(tmp_path: Path, name: str) -> None:
    """Signed activations: ONNX Runtime's own kernel for them saturates on x86, so there it is one step at most."""
    made = quantized(one("Conv", IMAGE, DENSE, pads=SAME), feeds_of(IMAGE), folder=tmp_path, **FORMS[name])
    written = convert(ir.from_proto(made))
    assert written.data is not None, written.problems
    assert written.operators["CONV_2D"] == written.operators["QUANTIZE"] == written.operators["DEQUANTIZE"] == 1
    engine, runner = session(made), prove.Runner(written.data)
    for feed in feeds_of(IMAGE):
        (want,), (got,) = engine.run(None, feed), runner(feed).values()
        step = np.diff(np.unique(want)).min()
        assert np.abs(got - want).max() <= (1.01 * step if "activations" in name else 0)


def test_sixteen_bits_are_refused_by_name(tmp_path: Path) -> None:
    options: dict[str, Any] = {"activation_type": q.QuantType.QUInt16, "extra_options": {"UseQDQContribOps": True}}
    made = quantized(one("Conv", IMAGE, DENSE), feeds_of(IMAGE), folder=tmp_path, **options)
    problems = convert(ir.from_proto(made)).problems
    assert problems and problems[0].operator == "QuantizeLinear" and "8 bits" in problems[0].why


@pytest.mark.parametrize("large", [False, True])
def test_a_last_layer_with_a_float_result_is_exact(monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    """DQ → Gemm → float: whole numbers in float32, or int8 in a range of their own, then one product, as it has it."""
    if large:
        monkeypatch.setattr(whole, "_LARGE", 1)
    w, b = np.random.default_rng(0).integers(-127, 128, (10, 512), dtype=np.int8), np.arange(10, dtype=np.int32) * 999
    scale = np.linspace(0.001, 0.02, 10, dtype=np.float32)
    weights = {"s": np.float32(0.031), "z": np.uint8(113), "w": w, "t": scale, "b": b, "u": scale * np.float32(0.031)}
    weights["v"] = np.zeros(10, np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "t", "v"], ["dw"], axis=0),
        helper.make_node("DequantizeLinear", ["b", "u"], ["db"], axis=0),
        helper.make_node("Gemm", ["d", "dw", "db"], ["y"], transB=1),
    ]
    stem = helper.make_node("Conv", ["i", "k"], ["c"])  # the model's work, beside which the Gemm is little
    flat = helper.make_node("Flatten", ["c"], ["x"])
    constants = [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()]
    constants.append(numpy_helper.from_array(normal(8, 16, 5, 5), "k"))
    ends = [
        helper.make_tensor_value_info("i", onnx.TensorProto.FLOAT, [1, 16, 12, 12]),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10]),
    ]
    graph = helper.make_graph([stem, flat, *nodes], "g", ends[:1], ends[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    inputs = [{"i": 0.1 * normal(1, 16, 12, 12, seed=n)} for n in range(8)]
    written = exact(proto, inputs)
    assert written.operators["MUL"] == 1 and not written.notes
    assert ("CONCATENATION" in written.operators) == large


def strip_softmax(model: ir.Model) -> ir.Model:
    """The model up to its final Softmax: what is integer throughout."""
    (output,) = model.graph.outputs
    last = output.producer()
    if last is not None and last.op_type == "Softmax":
        source = last.inputs[0]
        assert source is not None
        model.graph.outputs[0] = source
        model.graph.remove(last)
    return model


def real_inputs(folder: Path, which: str, count: int) -> Iterator[dict[str, np.ndarray]]:
    spec = importlib.util.spec_from_file_location(f"litert_{folder.name}", folder / "eval.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    seen = 0
    for feed in module.feeds(which):
        ((name, array),) = feed.items()
        for n in range(len(array)):
            yield {name: np.ascontiguousarray(array[n : n + 1])}
            seen += 1
            if seen == count:
                return


@pytest.mark.parametrize(
    "case", ["resnet8_cifar10", "dscnn_kws", pytest.param("efficientnet_lite0", marks=pytest.mark.slow)]
)
def test_a_wholly_integer_zoo_model_is_exact_on_real_inputs(
    zoo: Callable[[str], Path], tmp_path: Path, case: str
) -> None:
    from edgec import frontends, passes

    folder = zoo(case)
    model = frontends.load(folder / "model.onnx").model
    passes.run(model)
    proto = ir.to_proto(strip_softmax(model))
    made = quantized(proto, list(real_inputs(folder, "calib", 4)), folder=tmp_path)
    alike, apart = harmonize(ir.from_proto(made))
    assert not apart
    written = exact(ir.to_proto(alike), list(real_inputs(folder, "eval", 30)), in_doubt_float=False)
    assert written.operators["QUANTIZE"] == 1 and written.operators["DEQUANTIZE"] == 1
    assert not written.notes
    assert written.transposes == (0 if case == "resnet8_cifar10" else 1)  # the first layer's, folded (`stems`)


def test_scales_are_moved_until_both_engines_add_alike(tmp_path: Path) -> None:
    """Scales with which they don't: two tensors added, the result read by a convolution with an int32 bias."""
    names = ("x", "z")
    body = [helper.make_node("Add", names, ["a"], name="sum"), helper.make_node("Conv", ["a", "w", "b"], ["y"])]
    shape = (1, 8, 16, 16)
    graph = helper.make_graph(
        body,
        "g",
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in names],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(normal(4, 8, 3, 3), "w"), numpy_helper.from_array(normal(4), "b")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    tried = 0
    for seed in range(8):
        inputs = {n: normal(*shape, seed=seed + k) * (1 + seed / 7) for k, n in enumerate(names)}
        made = ir.from_proto(quantized(proto, [inputs], folder=tmp_path))
        if not convert(made).notes:
            continue
        tried += 1
        alike, apart = harmonize(made)
        assert alike is not made and not apart and not convert(alike).notes
        assert convert(alike).operators == convert(made).operators
        exact(ir.to_proto(alike), [inputs], in_doubt_float=False)
        before, after = (session(ir.to_proto(m)).run(None, inputs)[0] for m in (made, alike))
        assert np.linalg.norm(before - after) < 0.01 * np.linalg.norm(before)
    assert tried, "no scales of these eight differ: the test tries nothing"


def test_a_model_whose_additions_agree_is_left_alone(tmp_path: Path) -> None:
    made = ir.from_proto(quantized(one("Conv", IMAGE, DENSE), feeds_of(IMAGE), folder=tmp_path))
    assert harmonize(made) == (made, {})
