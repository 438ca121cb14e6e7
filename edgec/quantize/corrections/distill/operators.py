"""ONNX operators in torch, for tensors that gradients flow through: those that quantized networks are made of.

Each follows the operator's specification (onnx.ai/onnx/operators). What is not here, or here but not in this form,
leaves the part of the graph that holds it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers

Tensor = Any  # torch's, which may be absent
Operator = Callable[..., Tensor]


def operator(node: ir.Node) -> Operator | None:
    """A function of the node's inputs as tensors (None where absent); None where the node isn't understood."""
    if not layers.is_onnx(node) or sum(bool(v.uses() or v.is_graph_output()) for v in node.outputs) > 1:
        return None
    make = _TABLE.get(node.op_type)
    return None if make is None else make(node)


def _elementwise(call: str) -> Callable[[ir.Node], Operator]:
    def make(node: ir.Node) -> Operator:
        import torch

        return getattr(torch, call)  # type: ignore[no-any-return]

    return make


def _conv(node: ir.Node) -> Operator | None:
    import torch.nn.functional as nn

    rank = _weight_rank(node) - 2
    if rank not in (1, 2, 3) or _string(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    call = {1: nn.conv1d, 2: nn.conv2d, 3: nn.conv3d}[rank]
    strides, dilations = _ints(node, "strides", [1] * rank), _ints(node, "dilations", [1] * rank)
    begin, end, groups = *_pads(node, rank), int(_number(node, "group", 1))

    def run(x: Any, w: Any, b: Any = None) -> Any:
        if begin != end:
            x, symmetric = nn.pad(x, _torch_pads(begin, end)), [0] * rank
        else:
            symmetric = begin
        return call(x, w, b, strides, symmetric, dilations, groups)

    return run


def _gemm(node: ir.Node) -> Operator:
    alpha, beta = _number(node, "alpha", 1.0), _number(node, "beta", 1.0)
    trans_a, trans_b = _number(node, "transA", 0), _number(node, "transB", 0)

    def run(a: Any, b: Any, c: Any = None) -> Any:
        y = (a.T if trans_a else a) @ (b.T if trans_b else b) * alpha
        return y if c is None else y + c * beta

    return run


def _clip(node: ir.Node) -> Operator:
    import torch

    def run(x: Any, low: Any = None, high: Any = None) -> Any:
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)

    return run


def _pool(node: ir.Node) -> Operator | None:
    import torch.nn.functional as nn

    kernel = _ints(node, "kernel_shape", [])
    rank, mode = len(kernel), _string(node, "auto_pad", "NOTSET")
    strides, dilations = _ints(node, "strides", [1] * rank), _ints(node, "dilations", [1] * rank)
    begin, end = _pads(node, rank)
    if rank not in (1, 2, 3) or mode not in ("NOTSET", "VALID") or _number(node, "ceil_mode", 0):
        return None
    if node.op_type == "MaxPool":
        maximum = {1: nn.max_pool1d, 2: nn.max_pool2d, 3: nn.max_pool3d}[rank]
        return lambda x: maximum(
            nn.pad(x, _torch_pads(begin, end), value=float("-inf")) if any(begin + end) else x,
            kernel, strides, 0, dilations,
        )  # fmt: skip
    if any(d != 1 for d in dilations) or (any(begin + end) and not _number(node, "count_include_pad", 0)):
        return None
    mean: Any = {1: nn.avg_pool1d, 2: nn.avg_pool2d, 3: nn.avg_pool3d}[rank]
    return lambda x: mean(nn.pad(x, _torch_pads(begin, end)) if any(begin + end) else x, kernel, strides)


def _reduce(node: ir.Node) -> Operator | None:
    keep = bool(_number(node, "keepdims", 1))
    axes: Any = _ints(node, "axes", []) or (_constant(node, 1) if len(node.inputs) > 1 else None)
    if node.op_type == "GlobalAveragePool":
        return lambda x: x.mean(tuple(range(2, x.dim())), keepdim=True)
    if axes is None or len(axes) == 0 or node.op_type != "ReduceMean":
        return None
    chosen = tuple(int(a) for a in axes)
    return lambda x, *_: x.mean(chosen, keepdim=keep)


def _reshape(node: ir.Node) -> Operator | None:
    if node.op_type == "Flatten":
        axis = int(_number(node, "axis", 1))
        return (lambda x: x.reshape(x.shape[0], -1)) if axis == 1 else None
    shape = _constant(node, 1)
    if shape is None or _number(node, "allowzero", 0):
        return None
    wanted = [int(d) for d in shape]

    def run(x: Any, *_: Any) -> Any:
        dims = [x.shape[i] if d == 0 else d for i, d in enumerate(wanted)]
        if dims and dims[0] == 1 and -1 not in dims and int(np.prod(dims)) != x.numel():
            dims[0] = -1  # several samples at once, where the file says one
        return x.reshape(dims)

    return run


def _axes(node: ir.Node) -> Operator | None:
    axes = _constant(node, 1) if len(node.inputs) > 1 else None
    if axes is None:
        return None
    squeeze, result = node.op_type == "Squeeze", node.outputs[0]
    rank = None if result.shape is None else len(result.shape)
    if rank is None:
        return None
    full = rank + len(axes) if squeeze else rank
    chosen = sorted(int(a) % full for a in axes)

    def run(x: Any, *_: Any) -> Any:
        for a in reversed(chosen) if squeeze else chosen:
            x = x.squeeze(a) if squeeze else x.unsqueeze(a)
        return x

    return run


def _concat(node: ir.Node) -> Operator:
    import torch

    axis = int(_number(node, "axis", 0))
    return lambda *xs: torch.cat(xs, axis)


def _transpose(node: ir.Node) -> Operator | None:
    order = _ints(node, "perm", [])
    return (lambda x: x.permute(order)) if order else None


def _activation(node: ir.Node) -> Operator | None:
    import torch.nn.functional as nn

    kind = node.op_type
    if kind == "HardSigmoid":
        a, b = _number(node, "alpha", 0.2), _number(node, "beta", 0.5)
        return lambda x: (a * x + b).clamp(0, 1)
    if kind == "LeakyRelu":
        slope = _number(node, "alpha", 0.01)
        return lambda x: nn.leaky_relu(x, slope)
    if kind == "Elu":
        scale = _number(node, "alpha", 1.0)
        return lambda x: nn.elu(x, scale)
    if kind == "Gelu":
        approximate = _string(node, "approximate", "none")
        return lambda x: nn.gelu(x, approximate=approximate)
    if kind in ("Softmax", "LogSoftmax"):
        axis, call = int(_number(node, "axis", -1)), nn.softmax if kind == "Softmax" else nn.log_softmax
        return lambda x: call(x, axis)
    simple: dict[str, Operator] = {"HardSwish": nn.hardswish, "Relu": nn.relu, "Softplus": nn.softplus}
    return simple[kind]


def _prelu(node: ir.Node) -> Operator:
    import torch

    return lambda x, slope: torch.where(x >= 0, x, x * slope)


def _identity(node: ir.Node) -> Operator:
    return lambda x, *_: x


_TABLE: dict[str, Callable[[ir.Node], Operator | None]] = {
    **{k: _elementwise(k.lower()) for k in ("Add", "Mul", "Sub", "Div", "Sigmoid", "Tanh", "Erf", "Sqrt", "Exp")},
    **dict.fromkeys(("Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "LogSoftmax"), _activation),
    **dict.fromkeys(("Relu", "Softmax", "Softplus"), _activation),
    **dict.fromkeys(("AveragePool", "MaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "ReduceMean"), _reduce),
    **dict.fromkeys(("Flatten", "Reshape"), _reshape),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), _axes),
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _elementwise("matmul"),
    "Max": _elementwise("maximum"),
    "Min": _elementwise("minimum"),
    "PRelu": _prelu,
    "Transpose": _transpose,
}


def _weight_rank(node: ir.Node) -> int:
    """Of a weight that is a constant, or the dequantized twin of one."""
    value = node.inputs[1]
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "DequantizeLinear":
        value = producer.inputs[0]
    tensor = layers.constant_tensor(value)
    return 0 if tensor is None else len(tensor.shape)


def _torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Torch wants the last axis first."""
    return [p for pair in zip(reversed(begin), reversed(end), strict=True) for p in pair]


def _pads(node: ir.Node, rank: int) -> tuple[list[int], list[int]]:
    flat = _ints(node, "pads", [0] * 2 * rank)
    return flat[:rank], flat[rank:]


def _constant(node: ir.Node, index: int) -> np.ndarray | None:
    return layers.constant(node.inputs[index])


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())


def _string(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()
