"""The work in an ONNX file as onnxruntime runs it: its own graph optimizer makes the fused operators.

The optimizer of this machine, without what is x86's alone (blocked layouts). Shapes are those of the file, under the
names that the optimizer keeps; it also keeps them where it puts channels last, so those are computed anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from edgec_targets.profiles.work import Numbers, Work, depthwise, pair

_BLOCKED = "NchwcTransformer"
_NO_WORK = frozenset({"Identity", "Constant", "Shape"})
_VIEWS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
_PAIRS = frozenset({"Add", "Div", "Max", "Min", "Mul", "Pow", "QLinearAdd", "QLinearMul", "Sub", "Sum"})
_PRODUCTS: dict[str, tuple[int, Numbers]] = {
    "Gemm": (1, "float"), "FusedGemm": (1, "float"), "MatMul": (1, "float"), "FusedMatMul": (1, "float"),
    "QGemm": (3, "int8"), "QLinearMatMul": (3, "int8"), "MatMulIntegerToFloat": (1, "int8"),
    "MatMulInteger": (1, "int8"), "DynamicQuantizeMatMul": (1, "dynamic"),
}  # fmt: skip
"""Operator -> place of the second operand, what it computes with."""
_MOVED = frozenset(
    {
        *("Transpose", "QLinearConv", "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool"),
        *("QLinearConcat", "QLinearSigmoid", "QLinearLeakyRelu", "NhwcMaxPool"),
    }
)
"""Operators that may have their channels last."""
_INTEGERS = ("QLinear", "QGemm", "MatMulInteger")


def work(data: bytes) -> list[Work]:
    """What the kernels of a model do, in order; free sizes count as 1.

    Raises the engine's own exceptions where it refuses the model.
    """
    import onnx

    shapes = _shapes(onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data), data_prop=True))
    return graph_work(_optimized(data), shapes)


def graph_work(model: Any, shapes: Mapping[str, list[int]]) -> list[Work]:
    """The work of an optimized graph, given the shapes that are known."""
    return _Reader(model.graph, shapes).all()


def _optimized(data: bytes) -> Any:
    import onnx
    import onnxruntime

    ort: Any = onnxruntime
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "optimized.onnx"
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(path)
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"], disabled_optimizers=[_BLOCKED])
        return onnx.load(path)


def _shapes(model: Any) -> dict[str, list[int]]:
    graph = model.graph
    found = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            found[value.name] = [d.dim_value if d.HasField("dim_value") else 1 for d in kind.shape.dim]
    return found


class _Reader:
    def __init__(self, graph: Any, shapes: Mapping[str, list[int]]) -> None:
        self._graph = graph
        self._shapes = dict(shapes)
        self._initializers = {i.name: list(i.dims) for i in graph.initializer}
        self._shapes |= self._initializers
        self._types = {i.name: i.data_type for i in graph.initializer}
        self._uses: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._uses.setdefault(name, []).append(node)
        self._outputs = {v.name for v in graph.output}
        self._made = {name: node for node in graph.node for name in node.output}

    def all(self) -> list[Work]:
        ends = [v.name for v in (*self._graph.input, *self._graph.output) if v.name not in self._initializers]
        found = [Work("call", "float", sum(prod(self._shapes.get(n, [1])) for n in ends), 1)]
        for node in self._graph.node:
            for name in node.output:
                if name and (name not in self._shapes or node.op_type in _MOVED):
                    self._shapes[name] = self._guess(node)
            moving = [n for n in node.input if n and n not in self._initializers]
            if node.op_type in _NO_WORK or not moving:
                continue
            found.append(self._node(node, moving))
        return found

    def _guess(self, node: Any) -> list[int]:
        """The shape of a result that the optimizer named itself, or laid out anew."""
        shapes = [self._shapes.get(n, []) for n in node.input if n]
        kind, first = node.op_type, shapes[0] if shapes else []
        if kind == "Transpose" and len(perm := _attribute(node, "perm", [])) == len(first):
            return [first[p] for p in perm]
        if kind in _PRODUCTS:
            weight = shapes[_PRODUCTS[kind][0]]
            return [*first[:-1], (weight[0] if _attribute(node, "transB", 0) else weight[-1]) if weight else 1]
        last = bool(_attribute(node, "channels_last", 0)) or kind == "NhwcMaxPool"
        if last and "Conv" in kind:
            weight = self._shapes[node.input[3]]
            return [first[0], *self._window(node, first[1:-1], weight[2:]), weight[0]]
        if kind == "QLinearConv":
            weight = self._shapes[node.input[3]]
            return [first[0], weight[0], *self._window(node, first[2:], weight[2:])]
        if "GlobalAveragePool" in kind:
            return [first[0], *[1] * (len(first) - 2), first[-1]] if last else [*first[:2], *[1] * (len(first) - 2)]
        if "Pool" in kind:
            kernel = _attribute(node, "kernel_shape", [])
            if last:
                return [first[0], *self._window(node, first[1:-1], kernel), first[-1]]
            return [*first[:2], *self._window(node, first[2:], kernel)]
        if kind == "QLinearConcat":
            return self._concat(node)
        return max(shapes, key=prod) if shapes else []

    def _concat(self, node: Any) -> list[int]:
        several = [self._shapes.get(n, []) for n in node.input[2::3]]
        axis = _attribute(node, "axis", 1)
        made = list(several[0])
        made[axis] = sum(shape[axis] for shape in several)
        return made

    def _window(self, node: Any, sizes: list[int], kernel: list[int]) -> list[int]:
        """The sizes of a convolution's or a pool's result."""
        axes = len(sizes)
        strides, dilations = _attribute(node, "strides", [1] * axes), _attribute(node, "dilations", [1] * axes)
        if _attribute(node, "auto_pad", b"NOTSET") in (b"SAME_UPPER", b"SAME_LOWER"):
            return [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        pads = _attribute(node, "pads", [0] * 2 * axes)
        up = _attribute(node, "ceil_mode", 0)
        found = []
        for i, size in enumerate(sizes):
            room = size + pads[i] + pads[i + axes] - dilations[i] * (kernel[i] - 1) - 1
            found.append((-(-room // strides[i]) if up else room // strides[i]) + 1)
        return found

    def _node(self, node: Any, moving: list[str]) -> Work:
        kind = node.op_type
        out = self._shapes.get(node.output[0], [])
        if kind in ("Conv", "FusedConv", "QLinearConv", "ConvInteger", "ConvTranspose"):
            return self._conv(node, out)
        product = self._product(node, out)
        if product is not None:
            return product
        numbers: Numbers = "int8" if kind.startswith(_INTEGERS) or self._integer(moving[0]) else "float"
        larger = max(prod(out), *(prod(self._shapes.get(n, [1])) for n in moving))
        last = max(out[-1] if out else 1, 1)
        name = kind.lower()
        if kind in _VIEWS:
            return Work("reshape", numbers, larger, larger)
        if kind in _PAIRS:
            operands = [node.input[0], node.input[3]] if kind.startswith("QLinear") else list(node.input)
            return Work(f"{name}.{pair([prod(self._shapes.get(n, [1])) for n in operands])}", numbers, larger, last)
        if kind == "Transpose":
            perm = _attribute(node, "perm", [])
            rows = bool(perm) and perm[-1] == len(perm) - 1
            return Work(f"transpose.{'rows' if rows else 'elements'}", numbers, larger, last)
        if kind in ("MaxPool", "NhwcMaxPool", "AveragePool", "QLinearAveragePool"):
            window = prod(_attribute(node, "kernel_shape", [1]))
            return Work(name, numbers, prod(out) * window, window)
        if kind == "Resize":
            name = f"resize.{_attribute(node, 'mode', b'nearest').decode()}"
        if kind == "LSTM":
            source, recurrent = self._shapes.get(node.input[0], [1, 1, 1]), self._shapes[node.input[2]]
            return Work("lstm", "float", source[0] * source[1], recurrent[1], source[2] + recurrent[2])
        return Work(name, numbers, larger, last)

    def _integer(self, name: str) -> bool:
        """Whether a value holds quantized integers: DequantizeLinear or an integer kernel read it, or one made it."""
        maker = self._made.get(name)
        while maker is not None and maker.op_type in _VIEWS | {"Transpose", "Slice", "Split", "MaxPool", "Gather"}:
            maker = self._made.get(maker.input[0])
        if maker is None:
            return False
        return (
            maker.op_type == "QuantizeLinear"
            or maker.op_type.startswith("QLinear")
            or (maker.op_type == "QGemm" and len(maker.input) > 7 and bool(maker.input[7]))
        )

    def _conv(self, node: Any, out: list[int]) -> Work:
        integer = node.op_type.startswith("QLinear")
        numbers: Numbers = "int8" if integer else "float"
        weights = self._shapes[node.input[3 if integer else 1]]
        groups, taps = _attribute(node, "group", 1), prod(weights[2:])
        if node.op_type == "ConvTranspose":
            source = self._shapes.get(node.input[0], [1, 1])
            pixels = source[0] * prod(source[2:])
            return Work("conv.transposed", numbers, pixels, weights[1] * taps, weights[0] // groups, 1, groups)
        pixels = prod(out) // max(weights[0], 1)
        lines = pixels // max(out[-1] if out else 1, 1)
        strides = _attribute(node, "strides", [1])
        strided, plain = strides[-1] != 1, all(s == 1 for s in strides)
        padded = any(_attribute(node, "pads", [0]))
        gathered = taps > 1 or not plain or padded
        if weights[1] == 1 and groups == weights[0] and groups > 1:
            kind = "depthwise" if integer else f"depthwise.{depthwise(weights[2:], strides)}"
            return Work(kind, numbers, pixels, groups, 1, taps, groups, lines, True)
        kind = "conv" if integer or not strided else "conv.strided"
        return Work(kind, numbers, pixels, weights[0] // groups, weights[1], taps, groups, lines, gathered)

    def _product(self, node: Any, out: list[int]) -> Work | None:
        kind = node.op_type
        if kind not in _PRODUCTS:
            return None
        place, numbers = _PRODUCTS[kind]
        first, second = self._shapes.get(node.input[0], [1, 1]), self._shapes.get(node.input[place], [1, 1])
        n = out[-1] if out else 1
        inner = first[0 if _attribute(node, "transA", 0) and kind in ("Gemm", "QGemm") else -1]
        if node.input[place] in self._initializers and len(second) <= 2:
            return Work("product", numbers, prod(out) // max(n, 1), n, inner)
        return Work("product.pair", numbers, out[-2] if len(out) > 1 else 1, n, inner, 1, prod(out[:-2]))


def _attribute(node: Any, name: str, default: Any) -> Any:
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default
