"""Random convolution networks with branches, in float32 and quantized: LiteRT's answers beside ONNX Runtime's."""

from __future__ import annotations

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

from edgec_targets.emitters.litert import harmonize, prove
from edgec_targets.emitters.litert.conversion import convert

SIZE = 12
PLAIN = ("Relu", "HardSwish", "Sigmoid", "GlobalAveragePool", "Transpose", "MaxPool", "AveragePool")
KINDS = (*PLAIN, "Conv", "Conv", "Depthwise", "Clip", "Add", "Add", "Mul", "Concat", "Resize", "Slice")
Value = tuple[str, int, int]
"""Name, channels, height and width."""


class Network:
    """Grows one operator at a time; every value is 1 × channels × size × size."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[Value] = [("x", int(self.rng.choice([3, 4, 8])), SIZE)]
        for _ in range(int(self.rng.integers(3, 9))):
            self.grow(str(self.rng.choice(KINDS)), self.pick(self.values[-3:]))

    def pick(self, values: list[Value]) -> Value:
        return values[int(self.rng.integers(len(values)))]

    def constant(self, array: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant((0.4 * self.rng.standard_normal(shape)).astype(np.float32))

    def put(self, op: str, inputs: list[str], channels: int, size: int, **attributes: Any) -> None:
        name = f"v{len(self.values)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, channels, size))

    def grow(self, kind: str, value: Value) -> None:
        name, channels, size = value
        alike = [v for v in self.values if v[1:] == value[1:]]
        if kind == "Conv" and size >= 3:
            out, stride, pad = int(self.rng.choice([4, 8])), int(self.rng.choice([1, 2])), int(self.rng.integers(0, 2))
            inputs = [name, self.weights(out, channels, 3, 3), self.weights(out)]
            self.put("Conv", inputs, out, (size + 2 * pad - 3) // stride + 1, strides=[stride] * 2, pads=[pad] * 4)
        elif kind == "Depthwise" and size >= 3:
            inputs = [name, self.weights(channels, 1, 3, 3), self.weights(channels)]
            self.put("Conv", inputs, channels, size, group=channels, pads=[1] * 4)
        elif kind == "Clip":
            self.put("Clip", [name, self.constant(np.float32(0)), self.constant(np.float32(6))], channels, size)
        elif kind in ("Add", "Mul"):
            self.put(kind, [name, self.pick(alike)[0]], channels, size)
        elif kind == "Concat":
            other = self.pick([v for v in self.values if v[2] == size])
            self.put("Concat", [name, other[0]], channels + other[1], size, axis=1)
        elif kind == "Resize" and size <= SIZE:
            target = self.constant(np.array([1, channels, 2 * size, 2 * size], np.int64))
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            mode = str(self.rng.choice(["nearest", "linear"]))
            self.put("Resize", [name, "", "", target], channels, 2 * size, mode=mode, **how)
        elif kind == "Slice" and channels >= 4:
            ends = [self.constant(np.array([n], np.int64)) for n in (1, 3, 1)]
            self.put("Slice", [name, *ends], 2, size)
        elif kind == "Transpose":
            self.put("Transpose", [name], channels, size, perm=[0, 1, 3, 2])
        elif kind in ("MaxPool", "AveragePool") and size >= 2:
            self.put(kind, [name], channels, size // 2, kernel_shape=[2, 2], strides=[2, 2])
        elif kind == "GlobalAveragePool":
            self.put(kind, [name], channels, 1)
        elif kind in PLAIN and "Pool" not in kind:
            self.put(kind, [name], channels, size)

    def model(self) -> onnx.ModelProto:
        ends = sorted({self.values[-1][0], self.values[len(self.values) // 2][0]} - {"x"})
        graph = helper.make_graph(
            self.nodes,
            "random",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, self.values[0][1], SIZE, SIZE])],
            [helper.make_empty_tensor_value_info(n) for n in ends],
            self.constants,
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        return onnx.shape_inference.infer_shapes(made)


def pairs(model: ir.Model, feeds: list[dict[str, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """ONNX Runtime's and LiteRT's answers, output by output."""
    written = convert(model)
    assert written.data is not None, written.problems
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    runner, found = prove.Runner(written.data), []
    for feed in feeds:
        got = runner(feed)
        for output, want in zip(session.get_outputs(), session.run(None, feed), strict=True):
            found.append((want, got[output.name]))
    return found


@pytest.mark.parametrize("seed", [*range(14), 82])
def test_a_random_network(tmp_path: Path, seed: int) -> None:
    network = Network(seed)
    proto = network.model()
    shape = (1, network.values[0][1], SIZE, SIZE)
    feeds = [{"x": np.random.default_rng(n).standard_normal(shape).astype(np.float32)} for n in range(3)]
    for want, got in pairs(ir.from_proto(proto), feeds):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(want).max())))

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    q.quantize_static(proto, tmp_path / "int8.onnx", Reader(), per_channel=True, activation_type=q.QuantType.QUInt8)
    model, apart = harmonize(ir.from_proto(onnx.load(tmp_path / "int8.onnx")))
    # Operators that stay float between integers differ in their last bit, which rounding may make a step of.
    floats = {"HardSwish", "Sigmoid", "AveragePool", "Resize"}
    exact = not apart and not {n.op_type for n in network.nodes} & floats
    for want, got in pairs(model, feeds):
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            assert np.linalg.norm(got - want) <= 0.06 * np.linalg.norm(want)
