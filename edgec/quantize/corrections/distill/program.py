"""Part of a quantized graph as a torch function with trainable integers, biases and scales.

Rounding passes gradients straight through (Bengio et al. 2013, arXiv:1308.3432); scales are learned as in Esser et al.
2020, "Learned Step Size Quantization" (arXiv:1902.08153): their gradient follows from q = clamp(round(x/s) + z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.bias import float_bias, layer_scales
from edgec.quantize.corrections.distill.operators import Tensor, operator


@dataclass
class Trained:
    """A quantized layer's trainables.

    Attributes:
        node: Conv, Gemm or MatMul.
        weight: of the integers' shape, in steps; None where another layer reads the same integers.
        bias: (out channels,), as it came; None where the layer has no bias.
        offset: (out channels,), what is added to the bias, in `unit`s.
        limit: the largest integer.
        unit: root mean square of the layer's result, so that one rate suits all layers; 0 before the first run.
    """

    node: ir.Node
    weight: Tensor | None
    bias: Tensor | None
    offset: Tensor | None
    limit: int
    unit: float = 0.0

    def shifted(self) -> Tensor | None:
        """The bias as trained."""
        return self.bias if self.bias is None or self.offset is None else self.bias + self.offset * self.unit


class Program:
    """Runs nodes in torch.

    Args:
        nodes: in graph order; constants come from initializers and nodes among these.
        source: the value that is given.
        result: the value that is wanted.

    Attributes:
        missing: operators that are not understood; then it can't be run.
        trained: quantized layers.
        scales: initializer's value -> by what its scale is multiplied, as a logarithm: zero at first.
    """

    def __init__(self, nodes: Sequence[ir.Node], source: ir.Value, result: ir.Value) -> None:
        self._source, self._result = source, result
        self._steps: list[tuple[ir.Node, Any]] = []
        self._constants: dict[ir.Value, Any] = {}
        self.missing: set[str] = set()
        self.trained: list[Trained] = []
        self.scales: dict[ir.Value, Tensor] = {}
        own: dict[ir.Node, Trained] = {}
        for node in nodes:
            if node.op_type in layers.WEIGHTED and layers.is_onnx(node) and layer_scales(node) is not None:
                own[node] = _trainables(node)
        self._layers = own
        self.trained = list(own.values())
        replaced = {v.producer() for n in own for v in n.inputs[1:] if v is not None}
        for node in nodes:
            if node in replaced:  # the weights' and biases' own DequantizeLinear
                continue
            step = self._step(node)
            if step is None:
                self.missing.add(node.op_type)
            else:
                self._steps.append((node, step))

    def parameters(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Weights (in steps), offsets of biases (in parts of their layer's output), logarithms of scales."""
        weights = [t.weight for t in self.trained if t.weight is not None]
        biases = [t.offset for t in self.trained if t.offset is not None]
        return weights, biases, list(self.scales.values())

    def __call__(self, x: Tensor) -> Tensor:
        """The result for a batch along the first axis."""
        values: dict[ir.Value, Any] = {self._source: x}
        for node, step in self._steps:
            values[node.outputs[0]] = step(*(self._get(v, values) for v in node.inputs))
        return values[self._result]

    def _get(self, value: ir.Value | None, values: dict[ir.Value, Any]) -> Any:
        if value is None:
            return None
        if value in values:
            return values[value]
        if value not in self._constants:
            import torch

            array = layers.constant(value)
            self._constants[value] = None if array is None else torch.from_numpy(np.array(array))
        return self._constants[value]

    def _step(self, node: ir.Node) -> Any:
        if node in self._layers:
            return self._layer(node)
        if node.op_type == "QuantizeLinear" and layers.is_onnx(node):
            return self._quantize(node)
        if node.op_type == "DequantizeLinear" and layers.is_onnx(node):
            return self._dequantize(node)
        return operator(node)

    def _layer(self, node: ir.Node) -> Any:
        run, trained = operator(node), self._layers[node]
        scales = layer_scales(node)
        if run is None or scales is None:
            return None
        import torch

        integers = _integers(node)
        spread = torch.from_numpy(_spread(node, scales[1], integers.ndim))
        fixed = torch.from_numpy(integers.astype(np.float32)) * spread if trained.weight is None else None

        def step(x: Any, *_: Any) -> Any:
            weight = fixed
            if weight is None:
                weight = _round(trained.weight).clamp(-trained.limit, trained.limit) * spread
            bias = trained.shifted()
            y = run(x, weight) if bias is None else run(x, weight, bias)
            trained.unit = trained.unit or float(y.detach().square().mean().sqrt())
            return y

        return step

    def _scale(self, node: ir.Node) -> tuple[Callable[[], Tensor], float, int, int] | None:
        """What gives the scale, the zero point and the type's ends, where the scale is one constant number."""
        import torch

        value, zero = node.inputs[1], layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        array = layers.constant(value)
        if value is None or array is None or array.size != 1 or zero is None or zero.dtype.itemsize > 2:
            return None
        theta = self.scales.setdefault(value, torch.zeros((), requires_grad=True))
        base, ends = float(array.reshape(())), np.iinfo(zero.dtype)

        def scale() -> Tensor:
            return base * theta.exp()

        return scale, float(zero.reshape(())), int(ends.min), int(ends.max)

    def _quantize(self, node: ir.Node) -> Any:
        found = self._scale(node)
        if found is None:
            return None
        scale, zero, low, high = found
        return lambda x, *_: (_round(x / scale()) + zero).clamp(low, high)

    def _dequantize(self, node: ir.Node) -> Any:
        found = self._scale(node)
        if found is None:
            return None
        scale, zero, _, _ = found
        return lambda q, *_: (q.float() - zero) * scale()


def _trainables(node: ir.Node) -> Trained:
    import torch

    integers = _integers(node)
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    assert dequantize is not None and dequantize.inputs[0] is not None
    alone = len(dequantize.inputs[0].uses()) == 1 and len(dequantize.outputs[0].uses()) == 1
    weight = torch.from_numpy(integers.astype(np.float32)).requires_grad_(True) if alone else None
    bias = None
    if node.op_type != "MatMul" and len(node.inputs) > 2 and node.inputs[2] is not None:
        found = float_bias(node, layers.output_channels(node, integers.shape))
        if found is not None:
            bias = torch.from_numpy(np.array(found, np.float32))
    offset = None if bias is None else torch.zeros_like(bias).requires_grad_(True)
    return Trained(node, weight, bias, offset, 127 if np.abs(integers).max(initial=0) > 63 else 63)


def _integers(node: ir.Node) -> np.ndarray:
    dequantize = node.inputs[1].producer() if node.inputs[1] is not None else None
    array = layers.constant(dequantize.inputs[0]) if dequantize is not None else None
    assert array is not None
    return array


def _spread(node: ir.Node, scale: np.ndarray, rank: int) -> np.ndarray:
    """The weight's scale, shaped to multiply the integers."""
    if scale.size == 1:
        return np.asarray(scale, np.float32).reshape([1] * rank)
    axis = layers.weight_axis(node, rank)
    return np.asarray(scale, np.float32).reshape([-1 if i == axis else 1 for i in range(rank)])


def _round(x: Any) -> Any:
    """To the nearest even integer; the gradient passes as it is."""
    return x + (x.round() - x).detach()
