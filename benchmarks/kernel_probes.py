"""Small models whose kernels benchmarks/kernel_counts.py counts: one operator each, or the few that an engine fuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

MACS = 2_500_000
"""Larger layers say nothing more and take long: floating point is emulated in software."""


@dataclass
class Net:
    """A model being built; `last` is the value that the next operator reads. Weights are seeded."""

    shape: Sequence[int]
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    last: str = "x"
    random: Any = field(default_factory=lambda: np.random.default_rng(0))

    def weight(self, *shape: int, scale: float = 0.1) -> str:
        """A constant of normal numbers."""
        return self.constant(self.random.normal(0, scale, shape).astype(np.float32))

    def constant(self, array: Any) -> str:
        """A constant."""
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> Net:
        """An operator on the last value (where no inputs are named) or on those named; "" stands for the last."""
        made = f"v{len(self.nodes)}"
        given = [self.last if name == "" else name for name in inputs or ("",)]
        domain = attributes.pop("domain", "")
        self.nodes.append(helper.make_node(kind, given, [made], name=made, domain=domain, **attributes))
        self.last = made
        return self

    def conv(self, cin: int, cout: int, kernel: Sequence[int], stride: int = 1, group: int = 1, act: str = "") -> Net:
        """A convolution with bias and padding that keeps the size, and an activation."""
        window = list(kernel)
        weight = self.weight(cout, cin // group, *window)
        pads = [k // 2 for k in window] * 2
        strides = [stride] * len(window)
        self.op("Conv", "", weight, self.weight(cout), group=group, strides=strides, pads=pads, kernel_shape=window)
        if act == "Clip":
            self.op("Clip", "", self.constant(np.float32(0)), self.constant(np.float32(6)))
        elif act:
            self.op(act)
        return self

    def back(self) -> Net:
        """Channels last again."""
        return self.op("Transpose", perm=[0, 2, 3, 1])

    def model(self) -> Any:
        """An ONNX model of opset 21."""
        given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(self.shape))]
        made = [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, None)]
        graph = helper.make_graph(self.nodes, "probe", given, made, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def nets() -> Iterator[tuple[str, Net]]:
    """All probes by name. Images come N H W C, as LiteRT wants them: what ONNX Runtime transposes is counted apart."""
    yield from _convolutions()
    yield from _products()
    yield from _elements()
    yield from _blocks()
    yield from _sequences()
    yield from _transformers()
    yield from _others()


def _image(channels: int, height: int, width: int) -> Net:
    return Net([1, height, width, channels]).op("Transpose", perm=[0, 3, 1, 2])


def _convolutions() -> Iterator[tuple[str, Net]]:
    dense = ((1, 64), (3, 16), (3, 32), (8, 8), (8, 24), (16, 16), (16, 96), (24, 144), (32, 64), (96, 24), (64, 64),
             (40, 20), (13, 10), (192, 32), (144, 40), (128, 128), (320, 80), (64, 200))  # fmt: skip
    for cin, cout in dense:
        for kernel, stride, height, width in (
            ((1, 1), 1, 4, 4), ((1, 1), 1, 7, 9), ((1, 1), 1, 16, 16), ((1, 1), 1, 2, 49), ((3, 3), 1, 5, 5),
            ((3, 3), 1, 8, 12), ((3, 3), 2, 16, 16), ((5, 5), 2, 15, 17), ((1, 1), 2, 16, 16), ((10, 4), 2, 49, 10),
            ((3, 3), 2, 48, 64),
        ):  # fmt: skip
            pixels = -(-height // stride) * -(-width // stride)
            macs = pixels * cin * cout * kernel[0] * kernel[1]
            if macs <= MACS and (kernel != (10, 4) or cin <= 8) and (height < 40 or cin <= 8) and macs > 4000:
                name = f"conv {cin}-{cout} {kernel[0]}x{kernel[1]}/{stride} {height}x{width}"
                act = ("", "Relu", "Clip")[(cin + cout + height) // 2 % 3]
                yield name, _image(cin, height, width).conv(cin, cout, kernel, stride, act=act).back()
                if stride == 1 and min(cin, cout) >= 8 and macs < MACS // 2:
                    net = _image(cin, height, width).conv(cin, cout, kernel, act="Relu")
                    for _ in range(2):
                        net.conv(cout, cin, kernel, act="Relu").conv(cin, cout, kernel, act=act)
                    yield f"{name} chain", net.back()
    for channels in (8, 16, 24, 40, 64, 100, 144, 240):
        for size, stride, height, width in (
            (3, 1, 7, 7), (3, 1, 14, 16), (3, 2, 14, 16), (5, 1, 8, 9), (5, 2, 15, 16), (5, 1, 2, 24), (3, 1, 28, 28),
        ):  # fmt: skip
            if channels * height * width * size * size <= 800_000:
                net = _image(channels, height, width)
                act = ("", "Relu", "Clip")[(channels + height) // 2 % 3]
                name = f"depthwise {channels} {size}/{stride} {height}x{width}"
                yield name, net.conv(channels, channels, (size, size), stride, channels, act).back()
                if stride == 1:
                    net = _image(channels, height, width)
                    for _ in range(4):
                        net.conv(channels, channels, (size, size), 1, channels, act)
                    yield f"{name} chain", net.back()
    for cin, cout, size, stride, height, width in (
        (3, 16, 3, 2, 96, 96), (16, 16, 3, 1, 32, 32), (32, 32, 3, 1, 16, 16), (64, 64, 3, 1, 8, 8),
        (16, 8, 1, 1, 56, 56),
        (8, 32, 1, 1, 40, 60), (16, 64, 1, 1, 28, 28), (48, 16, 1, 1, 28, 28), (32, 64, 1, 2, 16, 16),
        (8, 8, 3, 1, 48, 48),
        (16, 32, 3, 2, 32, 32), (96, 16, 1, 1, 28, 28), (64, 12, 3, 1, 15, 20), (128, 4, 3, 1, 8, 10),
        (256, 64, 1, 1, 8, 10),
        (24, 88, 1, 1, 3, 96), (104, 200, 1, 1, 2, 24),
    ):  # fmt: skip
        net = _image(cin, height, width).conv(cin, cout, (size, size), stride, act="Relu").back()
        yield f"conv {cin}-{cout} {size}x{size}/{stride} {height}x{width}", net
    for channels, size, stride, height, width in (
        (8, 3, 2, 64, 64), (8, 3, 2, 112, 112), (16, 3, 2, 28, 28), (8, 5, 1, 56, 56), (16, 5, 1, 28, 28),
        (16, 5, 2, 56, 56),
        (32, 5, 1, 3, 96), (24, 3, 2, 12, 96), (8, 3, 1, 60, 80), (16, 3, 1, 56, 56), (50, 3, 1, 14, 14),
        (12, 3, 2, 28, 28),
        (104, 5, 1, 2, 96), (64, 5, 1, 14, 14), (96, 5, 1, 7, 7),
    ):  # fmt: skip
        net = _image(channels, height, width)
        net.conv(channels, channels, (size, size), stride, channels, "Relu").back()
        yield f"depthwise {channels} {size}/{stride} {height}x{width}", net
    for cin, cout, group in ((16, 16, 2), (32, 64, 4), (24, 24, 6)):
        yield f"grouped {cin}-{cout}/{group}", _image(cin, 8, 8).conv(cin, cout, (3, 3), 1, group).back()
    for cin, cout, length, stride in (
        (1, 258, 4, 1),
        (129, 128, 4, 1),
        (128, 64, 4, 2),
        (64, 64, 2, 2),
        (16, 32, 40, 1),
    ):
        yield f"conv of one axis {cin}-{cout} {length}", Net([1, cin, length]).conv(cin, cout, (3,), stride, act="Relu")
    for cout, length, size, stride in ((258, 832, 256, 128), (64, 640, 128, 64), (64, 400, 25, 10)):
        net = Net([1, 1, length])
        net.op("Conv", "", net.weight(cout, 1, size), strides=[stride], kernel_shape=[size])
        yield f"filters {cout} {length} {size}/{stride}", net


def _products() -> Iterator[tuple[str, Net]]:
    for m, n, k in ((1, 10, 64), (1, 100, 320), (1, 1000, 256), (4, 64, 64), (7, 33, 40), (16, 96, 96), (64, 128, 48),
                    (32, 96, 192), (64, 64, 160), (1, 256, 256), (2, 12, 200), (8, 64, 32), (8, 64, 128), (8, 64, 512),
                    (8, 64, 1536),
                    (33, 128, 96), (64, 384, 64), (64, 16, 384), (16, 512, 64)):  # fmt: skip
        net = Net([m, k])
        yield f"gemm {m}x{k}x{n}", net.op("Gemm", "", net.weight(k, n), net.weight(n))
        net = Net([1, m, k])
        yield f"matmul {m}x{k}x{n}", net.op("MatMul", "", net.weight(k, n)).op("Add", "", net.weight(n))
        net = Net([1, m, k])
        net.op("MatMul", "", net.weight(k, n)).op("Add", "", net.weight(n)).op("Relu")
        yield f"matmul {m}x{k}x{n} twice", net.op("MatMul", "", net.weight(n, 16)).op("Add", "", net.weight(16))
    for heads, length, depth in ((2, 16, 8), (4, 24, 32), (12, 16, 32), (2, 64, 16)):
        net = Net([heads, length, depth])
        net.op("Transpose", "x", perm=[0, 2, 1]).op("MatMul", "x", "")
        yield f"attention {heads} {length} {depth}", net.op("Softmax", axis=-1).op("MatMul", "", "x")


UNARY = ("Relu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Exp", "Sqrt", "Erf", "Gelu", "LeakyRelu", "Neg", "Abs",
         "Log", "Reciprocal", "Softplus", "Elu")  # fmt: skip
BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def _elements() -> Iterator[tuple[str, Net]]:
    sizes = ((1, 8), (16, 16), (40, 100), (64, 128))
    for rows, length in ((1, 8), (16, 16), (40, 100), (64, 128), (100, 200)):
        net = Net([rows, length])
        scale, zero = net.constant(np.float32(0.02)), net.constant(np.uint8(128))
        yield (
            f"Q, DQ {rows}x{length}",
            net.op("QuantizeLinear", "", scale, zero).op("DequantizeLinear", "", scale, zero),
        )
    for rows, length in sizes:
        for kind in UNARY:
            net = Net([rows, length])
            yield f"{kind} {rows}x{length}", (net.op("Abs") if kind in ("Sqrt", "Log") else net).op(kind)
        for kind in BINARY:
            net = Net([rows, length]).op("Abs")
            yield f"{kind} {rows}x{length}", net.op(kind, "", "x")
            net = Net([rows, length])
            yield f"{kind} {rows}x{length} by row", net.op(kind, "", net.constant(np.full((1, length), 1.5, "f4")))
            net = Net([rows, length])
            yield f"{kind} {rows}x{length} by number", net.op(kind, "", net.constant(np.float32(1.5)))
        net = Net([rows, length])
        yield f"Pow {rows}x{length}", net.op("Pow", "", net.constant(np.float32(2)))
        for axis in (0, 1):
            yield f"Softmax {rows}x{length} {axis}", Net([rows, length]).op("Softmax", axis=axis)
            for kind in ("ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"):
                net = Net([1, rows, length])
                yield f"{kind} {rows}x{length} {axis}", net.op(kind, "", net.constant(np.array([axis + 1])), keepdims=1)
        net = Net([rows, length])
        yield (
            f"LayerNormalization {rows}x{length}",
            net.op("LayerNormalization", "", net.weight(length), net.weight(length), axis=-1),
        )
        net = Net([1, rows, length])
        net.op("Abs").op("Add", "", "x")
        yield (
            f"Add, LayerNormalization {rows}x{length}",
            net.op("LayerNormalization", "", net.weight(length), net.weight(length), axis=-1),
        )
        net = Net([1, rows, length])
        yield f"bias, Gelu {rows}x{length}", net.op("Add", "", net.weight(length)).op("Gelu")
        yield f"Transpose {rows}x{length}", Net([rows, length]).op("Transpose", perm=[1, 0]).op("Relu")
        yield f"Transpose {rows}x{length} rows", Net([2, rows, length]).op("Relu").op("Transpose", perm=[1, 0, 2])
        net = Net([rows, length])
        yield (
            f"Slice {rows}x{length}",
            net.op("Slice", "", *(net.constant(np.array([n])) for n in (length // 4, length // 2, 1))).op("Relu"),
        )
        yield f"Concat {rows}x{length}", Net([rows, length]).op("Relu").op("Concat", "", "x", axis=1)
        yield f"Split {rows}x{length}", _split(rows, length)
        net = Net([rows, length])
        yield f"Pad {rows}x{length}", net.op("Pad", "", net.constant(np.array([0, 1, 0, 2])))
        net = Net([1, length])
        yield f"Gather {rows}x{length}", net.op("Gather", "", net.constant(np.zeros(rows, np.int64)), axis=0)
        net = Net([rows, length])
        yield (
            f"Reshape {rows}x{length}",
            net.op("Relu").op("Reshape", "", net.constant(np.array([length, rows]))).op("Abs"),
        )


def _split(rows: int, length: int) -> Net:
    net = Net([rows, length])
    net.nodes.append(helper.make_node("Split", ["x"], ["s0", "s1"], name="split", axis=1, num_outputs=2))
    return net.op("Add", "s0", "s1")


def _blocks() -> Iterator[tuple[str, Net]]:
    """What stands between convolutions: in an int8 model its integers."""
    for channels, height in ((16, 8), (24, 14), (96, 7), (48, 20)):
        wide = (height, height)

        def start(channels: int = channels, wide: tuple[int, int] = wide) -> Net:
            return _image(channels, *wide).conv(channels, channels, (1, 1), act="Relu")

        def end(net: Net, channels: int = channels) -> Net:
            return net.conv(channels, 16, (1, 1)).back()

        for kind in ("Sigmoid", "HardSwish", "LeakyRelu", "HardSigmoid", "Tanh", "Relu"):
            net = _image(channels, *wide).conv(channels, channels, (1, 1))
            yield f"between {kind} {channels} {height}", end(net.op(kind))
        for kind in ("MaxPool", "AveragePool"):
            for window, stride in ((2, 2), (3, 1), (3, 2)):
                pads = [window // 2] * 4 if window == 3 else [0] * 4
                net = start().op(kind, kernel_shape=[window] * 2, strides=[stride] * 2, pads=pads)
                yield f"between {kind} {window}/{stride} {channels} {height}", end(net)
        yield f"between GlobalAveragePool {channels} {height}", end(start().op("GlobalAveragePool"))
        net = start().op("AveragePool", kernel_shape=list(wide)).op("Flatten")
        yield (
            f"between AveragePool all {channels} {height}",
            net.op("Gemm", "", net.weight(channels, 10), net.weight(10)),
        )
        net = start()
        net.op("ReduceMean", "", net.constant(np.array([2, 3])), keepdims=0)
        yield f"between ReduceMean {channels} {height}", net.op("Gemm", "", net.weight(channels, 10), net.weight(10))
        for act in ("", "Relu"):
            net = start()
            for _ in range(3):
                first = net.last
                net.conv(channels, channels, (1, 1)).op("Add", "", first)
                if act:
                    net.op(act)
            yield f"residual {act} {channels} {height}", end(net)
        net = start()
        first = net.last
        net.conv(channels, channels, (1, 1), act="Relu")
        yield f"between Concat {channels} {height}", net.op("Concat", "", first, axis=1).conv(2 * channels, 16, (1, 1))
        net = start()
        first = net.last
        net.op("GlobalAveragePool").conv(channels, channels, (1, 1)).op("HardSigmoid").op("Mul", "", first)
        yield f"squeeze and excite {channels} {height}", end(net)
        net = start()
        net.op("Resize", "", "", net.constant(np.array([1, 1, 2, 2], "f4")), mode="nearest")
        net.nodes[-1].input[1] = ""
        yield f"between Resize {channels} {height}", end(net)
        net = start()
        net.op("Resize", "", "", net.constant(np.array([1, 1, 2, 2], "f4")), mode="linear")
        net.nodes[-1].input[1] = ""
        yield f"between Resize linear {channels} {height}", end(net)
        net = start()
        yield (
            f"between Transpose {channels} {height}",
            net.op("Transpose", perm=[0, 2, 3, 1]).op("Reshape", "", net.constant(np.array([1, -1, channels]))),
        )
        net = start()
        weight = net.weight(channels, 16, 2, 2)
        yield (
            f"ConvTranspose {channels} {height}",
            net.op("ConvTranspose", "", weight, kernel_shape=[2, 2], strides=[2, 2]),
        )


def _sequences() -> Iterator[tuple[str, Net]]:
    for steps, size, hidden in ((1, 128, 128), (1, 32, 64), (4, 24, 32), (8, 16, 16)):
        net = Net([steps, 1, size])
        weights = [net.weight(1, 4 * hidden, size), net.weight(1, 4 * hidden, hidden), net.weight(1, 8 * hidden)]
        yield f"LSTM {steps} {size} {hidden}", net.op("LSTM", "", *weights, hidden_size=hidden).op("Relu")
    for size, hidden in ((16, 16), (64, 64), (128, 128)):
        net = Net([1, 2 * hidden + size])
        sizes = net.constant(np.array([hidden, hidden, size]))
        net.nodes.append(helper.make_node("Split", ["x", sizes], ["h", "c", "i"], name="split", axis=1))
        parts = [net.op("Unsqueeze", name, net.constant(np.array([0]))).last for name in "ihc"]
        weights = [net.weight(1, 4 * hidden, size), net.weight(1, 4 * hidden, hidden), net.weight(1, 8 * hidden)]
        net.op("LSTM", parts[0], *weights, "lengths", *parts[1:], hidden_size=hidden)
        net.nodes[-1].input[4] = ""
        yield f"LSTM of a state {size} {hidden}", net.op("Relu")


def _transformers() -> Iterator[tuple[str, Net]]:
    """Attention as exporters write it, and what surrounds it."""
    for length, heads, depth in ((16, 2, 16), (24, 4, 32), (64, 4, 16), (48, 12, 32)):
        width = heads * depth
        net = Net([1, length, width])

        def linear(source: str, net: Net = net, width: int = width) -> str:
            return net.op("MatMul", source, net.weight(width, width)).op("Add", "", net.weight(width)).last

        def split(source: str, perm: list[int], net: Net = net, sizes: tuple[int, ...] = (length, heads, depth)) -> str:
            shape = net.constant(np.array([1, *sizes]))
            return net.op("Reshape", linear(source), shape).op("Transpose", perm=perm).last

        query, key, value = split("x", [0, 2, 1, 3]), split("x", [0, 2, 3, 1]), split("x", [0, 2, 1, 3])
        net.op("MatMul", query, key).op("Div", "", net.constant(np.float32(depth**0.5))).op("Softmax", axis=-1)
        net.op("MatMul", "", value).op("Transpose", perm=[0, 2, 1, 3])
        net.op("Reshape", "", net.constant(np.array([1, length, width])))
        net.op("Add", linear(net.last), "x")
        net.op("LayerNormalization", "", net.weight(width), net.weight(width), axis=-1)
        if length != 64:
            net.op("MatMul", "", net.weight(width, 2 * width)).op("Add", "", net.weight(2 * width)).op("Gelu")
            net.op("MatMul", "", net.weight(2 * width, width)).op("Add", "", net.weight(width))
        yield f"transformer {length} {heads}x{depth}", net


def _others() -> Iterator[tuple[str, Net]]:
    """Operators at the edges of models."""
    for rows, length in ((1, 64), (16, 48), (40, 100)):
        net = Net([1, rows * length])
        yield (
            f"Pad, reflected {rows}x{length}",
            net.op("Pad", "", net.constant(np.array([0, 2, 0, 3])), mode="reflect").op("Abs"),
        )
        net = Net([1, rows])
        net.op("Cast", to=TensorProto.INT64)
        yield f"embedding {rows}x{length}", net.op("Gather", net.weight(7, length), net.last, axis=0)
        net = Net([rows, length])
        net.op("Greater", "", net.constant(np.float32(1)))
        yield f"Where {rows}x{length}", net.op("Where", "", "x", net.constant(np.float32(0)))
        net = Net([rows, 1])
        yield f"Expand {rows}x{length}", net.op("Expand", "", net.constant(np.array([rows, length]))).op("Abs")
        net = Net([rows, length])
        limits = net.constant(np.float32(0.1)), net.constant(np.float32(1.5))
        yield f"Clip {rows}x{length}", net.op("Clip", "", *limits)
        net = Net([rows, length])
        net.op("Relu").op("MatMul", "", net.weight(length, 24)).op("Reshape", "", net.constant(np.array([rows, 4, 6])))
        yield f"integers moved {rows}x{length}", net.op("Transpose", perm=[1, 0, 2]).op("MatMul", "", net.weight(6, 8))
        for kind in ("Sum",):
            yield f"{kind} {rows}x{length}", Net([rows, length]).op("Abs").op(kind, "", "x")
