"""16-bit activations by 8-bit weights: as near to ONNX's own meaning as 16 bits are, in the kernels that TFLite has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert

IMAGE = (1, 8, 12, 12)
LEAST = 60.0
"""dB; a step of 16 bits is 96 dB under the range."""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([*shape, seed]).standard_normal(shape).astype(np.float32)


class Net:
    """A Q/DQ graph in the making: 16-bit activations around zero, 8-bit weights a channel, int32 biases."""

    def __init__(self, unsigned: bool = False) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.zero = np.uint16(32768) if unsigned else np.int16(0)
        self.scales: dict[str, np.float32] = {}

    def constant(self, data: np.ndarray | np.generic) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(data), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op}_{len(self.nodes)}", **attributes))
        return name

    def qdq(self, value: str, scale: float, zero: np.generic | None = None) -> str:
        numbers = [self.constant(np.float32(scale)), self.constant(self.zero if zero is None else zero)]
        found = self.node("DequantizeLinear", [self.node("QuantizeLinear", [value, *numbers]), *numbers])
        self.scales[found] = np.float32(scale)
        return found

    def layer(self, op: str, x: str, weights: np.ndarray, scale: float, **attributes: object) -> str:
        axis = 1 if op == "MatMul" else 0
        steps = (np.abs(weights).max(tuple(a for a in range(weights.ndim) if a != axis)) / 127).astype(np.float32)
        spread = steps.reshape([-1 if a == axis else 1 for a in range(weights.ndim)])
        names = [self.constant(np.rint(weights / spread).astype(np.int8)), self.constant(steps)]
        inputs = [x, self.node("DequantizeLinear", names, axis=axis)]
        if op != "MatMul":
            of_bias = (self.scales[x] * steps).astype(np.float32)
            bias = np.arange(len(steps), dtype=np.int32) * 1000
            inputs.append(self.node("DequantizeLinear", [self.constant(bias), self.constant(of_bias)], axis=0))
        return self.qdq(self.node(op, inputs, **attributes), scale)

    def model(self, *outputs: str) -> onnx.ModelProto:
        ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE)]
        outs = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph(self.nodes, "g", ends, outs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def conv(net: Net, x: str) -> str:
    return net.layer("Conv", x, normal(6, 8, 3, 3), 0.001, pads=[1, 1, 1, 1], strides=[2, 2])


def depthwise(net: Net, x: str) -> str:
    return net.layer("Conv", x, normal(8, 1, 3, 3), 0.0005, group=8, pads=[0, 0, 1, 1])


def relu(net: Net, x: str) -> str:
    y = net.layer("Conv", x, normal(6, 8, 1, 1), 0.0004)
    net.nodes.insert(-2, helper.make_node("Relu", [net.nodes[-3].output[0]], ["r"]))
    net.nodes[-2].input[0] = "r"
    return y


def add(net: Net, x: str) -> str:
    return net.qdq(net.node("Add", [x, net.layer("Conv", x, normal(8, 8, 1, 1), 0.0007)]), 0.0008)


def multiply(net: Net, x: str) -> str:
    return net.qdq(net.node("Mul", [x, net.layer("Conv", x, normal(8, 8, 1, 1), 0.0007)]), 0.003)


def concat(net: Net, x: str) -> str:
    return net.qdq(net.node("Concat", [x, net.layer("Conv", x, normal(8, 8, 1, 1), 0.0007)], axis=1), 0.0007)


def pooled(net: Net, x: str) -> str:
    y = net.node("MaxPool", [net.layer("Conv", x, normal(8, 8, 1, 1), 0.0004)], kernel_shape=[2, 2], strides=[2, 2])
    return net.qdq(net.node("GlobalAveragePool", [net.qdq(y, 0.0004)]), 0.0002)


def flat(net: Net, x: str) -> str:
    y = net.qdq(net.node("Flatten", [net.qdq(net.node("GlobalAveragePool", [x]), 0.0001)]), 0.0001)
    return net.layer("Gemm", y, normal(10, 8), 0.0002, transB=1)


def product(net: Net, x: str) -> str:
    y = net.node("Reshape", [x, net.constant(np.array([1, 96, 12], np.int64))])
    return net.layer("MatMul", net.qdq(y, float(net.scales[x])), normal(12, 7), 0.0005)


def in_float(net: Net, x: str) -> str:
    """Operators without such a kernel stay in float, between integers."""
    y = net.layer("Conv", x, normal(8, 8, 1, 1), 0.0004)
    return net.layer("Conv", net.qdq(net.node("HardSwish", [y]), 0.0004), normal(4, 8, 1, 1), 0.0007)


NETS: dict[str, tuple[Callable[[Net, str], str], str]] = {
    "conv": (conv, "CONV_2D"), "depthwise": (depthwise, "DEPTHWISE_CONV_2D"), "relu": (relu, "CONV_2D"),
    "add": (add, "ADD"), "multiply": (multiply, "MUL"), "concat": (concat, "CONCATENATION"),
    "pooled": (pooled, "MEAN"), "flat": (flat, "FULLY_CONNECTED"), "product": (product, "FULLY_CONNECTED"),
    "in float": (in_float, "HARD_SWISH"),
}  # fmt: skip


@pytest.mark.parametrize("unsigned", [False, True], ids=["int16", "uint16"])
@pytest.mark.parametrize("name", NETS)
def test_sixteen_bits(name: str, unsigned: bool) -> None:
    make, operator = NETS[name]
    net = Net(unsigned)
    proto = net.model(make(net, net.qdq("x", 0.00015)))
    written = convert(ir.from_proto(proto))
    assert written.data is not None, written.problems
    assert prove.loads(written.data) is None
    assert written.operators[operator]
    assert written.operators["QUANTIZE"] == (2 if name in ("concat", "in float") else 1), "one, at the border"
    plain = ort.SessionOptions()  # onnxruntime's own rewriting rounds some of these models to fewer bits
    plain.graph_optimization_level, plain.log_severity_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL, 3
    session = ort.InferenceSession(proto.SerializeToString(), plain, providers=["CPUExecutionProvider"])
    runner, signal, noise = prove.Runner(written.data), 0.0, 0.0
    for seed in range(3):
        feed = {"x": normal(*IMAGE, seed=seed)}
        want, got = session.run(None, feed)[0], next(iter(runner(feed).values()))
        assert got.shape == want.shape
        signal, noise = signal + float(np.square(want).sum()), noise + float(np.square(want - got).sum())
    assert noise == 0 or 10 * np.log10(signal / noise) > LEAST


def test_a_zero_point_is_refused_by_name() -> None:
    net = Net(unsigned=True)
    x = net.qdq("x", 0.00015, np.uint16(30000))
    problems = convert(ir.from_proto(net.model(net.layer("Conv", x, normal(6, 8, 3, 3), 0.001)))).problems
    assert problems and problems[0].operator == "QuantizeLinear"
    assert "16 around zero" in problems[0].why and "int16x8" in problems[0].fix


def test_widths_may_be_mixed() -> None:
    """8 bits after 16: what lies between two widths is computed in float, and nothing is read as what it is not."""
    net = Net()
    wide = net.layer("Conv", net.qdq("x", 0.00015), normal(8, 8, 3, 3), 0.001)
    narrow = net.qdq(wide, 0.2, np.int8(3))
    proto = net.model(net.qdq(net.node("Add", [narrow, narrow]), 0.4, np.int8(3)), wide)
    written = convert(ir.from_proto(proto))
    assert written.data is not None, written.problems
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {"x": normal(*IMAGE)}
    got = prove.run(written.data, feed)
    for output, want, step in zip(session.get_outputs(), session.run(None, feed), (0.4, 0.002), strict=True):
        assert np.abs(got[output.name] - want).max() <= 1.01 * step


def test_a_zoo_model(zoo: Callable[[str], Path]) -> None:
    """As `--precision int16x8` makes it."""
    from edgec import data, frontends, passes, quantize
    from edgec.quantize.scheme import INT16X8

    model = frontends.load(zoo("dscnn_kws") / "model.onnx").model
    passes.run(model)
    feeds = [{"input_1": normal(1, 49, 10, 1, seed=seed)} for seed in range(4)]
    made = quantize.quantize_with_data(
        model, data.Dataset.of(feeds, model.graph.inputs), effort="plain", arch="", scheme=INT16X8
    ).model
    written = convert(made)
    assert written.data is not None, written.problems
    assert written.operators["CONV_2D"] == 5 and written.operators["DEPTHWISE_CONV_2D"] == 4
    assert written.operators["QUANTIZE"] == 1
    session = ort.InferenceSession(ir.to_proto(made).SerializeToString(), providers=["CPUExecutionProvider"])
    runner = prove.Runner(written.data)
    for feed in feeds:
        (want,), got = session.run(None, feed), next(iter(runner(feed).values()))
        assert 10 * np.log10(np.square(want).sum() / max(np.square(want - got).sum(), 1e-30)) > LEAST - 10
