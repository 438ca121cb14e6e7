"""Layers that become part of the layer before them, which ncnn runs at no cost. Each only where nobody else reads it.

1. BatchNorm after a convolution or a matrix product: its factor goes into the weights, the rest into the bias.
2. The addition of a constant, one a channel, after such a layer: the bias (a model's MatMul and Add).
3. ReLU, leaky ReLU, Clip, Sigmoid, Mish, HardSwish after such a layer: its activation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from edgec_targets.emitters.ncnn.file import File, Layer, Weights

_BIAS = {
    kind + suffix: 5
    for kind in ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")
    for suffix in ("", "1D")
} | {"InnerProduct": 1}
"""Kinds that take a bias and an activation → the key of the flag that says whether there is a bias."""
_ACTIVATION, _ACTIVATION_PARAMS = 9, 10
_LOWEST, _HIGHEST = -float(np.finfo(np.float32).max), float(np.finfo(np.float32).max)
_ADD = 0


def fuse(file: File, outputs: Sequence[str]) -> None:
    """Fuse what can be, in place. `outputs` are the blobs that are asked for."""
    readers = Counter([name for layer in file.layers for name in layer.inputs] + list(outputs))
    makers = {name: layer for layer in file.layers for name in layer.outputs}
    gone: set[int] = set()
    for layer in file.layers:
        for place, name in enumerate(layer.inputs):
            before = makers.get(name)
            if before is None or before.kind not in _BIAS or readers[name] != 1:
                continue
            others = [makers[other] for n, other in enumerate(layer.inputs) if n != place and other in makers]
            if _ACTIVATION not in before.params and _absorb(before, layer, others):
                before.outputs, before.dims = layer.outputs, layer.dims
                makers |= dict.fromkeys(layer.outputs, before)
                gone.add(id(layer))
                break
    file.layers = [layer for layer in file.layers if id(layer) not in gone]


def _absorb(before: Layer, layer: Layer, others: Sequence[Layer]) -> bool:
    if layer.kind == "BatchNorm":
        return _normalization(before, layer)
    if layer.kind == "BinaryOp":
        return _addition(before, layer, others)
    found = _activation(layer)
    if found is None:
        return False
    kind, numbers = found
    before.params[_ACTIVATION] = kind
    if numbers:
        before.params[_ACTIVATION_PARAMS] = numbers
    return True


def _normalization(before: Layer, layer: Layer) -> bool:
    """y = (x − mean) / √(variance + ε) · slope + bias, folded in double precision."""
    slope, mean, variance, bias = (w.values.astype(np.float64) for w in layer.weights)
    epsilon = layer.params[1]
    assert isinstance(epsilon, float)
    units = before.params[0]
    if slope.size != units:
        return False
    factor = slope / np.sqrt(variance + epsilon)
    weights = before.weights[0].values
    scaled = weights.reshape(slope.size, -1).astype(np.float64) * factor[:, None]
    own = _bias(before).astype(np.float64)
    before.weights[0] = Weights(scaled.astype(np.float32).reshape(weights.shape), tagged=True)
    _set_bias(before, ((own - mean) * factor + bias).astype(np.float32))
    return True


def _addition(before: Layer, layer: Layer, others: Sequence[Layer]) -> bool:
    if layer.params.get(0) != _ADD or 1 in layer.params or len(others) != 1 or others[0].kind != "MemoryData":
        return False
    added = others[0].weights[0].values
    if added.ndim != 1 or added.size != before.params[0]:
        return False
    _set_bias(before, _bias(before) + added)
    return True


def _bias(layer: Layer) -> np.ndarray:
    units = layer.params[0]
    assert isinstance(units, int)
    return layer.weights[1].values if len(layer.weights) > 1 else np.zeros(units, np.float32)


def _set_bias(layer: Layer, bias: np.ndarray) -> None:
    layer.params[_BIAS[layer.kind]] = 1
    layer.weights[1:] = [Weights(bias.astype(np.float32), tagged=False)]


def _activation(layer: Layer) -> tuple[int, list[float]] | None:
    """ncnn's number of an activation and its parameters."""
    numbers = {key: value for key, value in layer.params.items() if isinstance(value, int | float)}
    if layer.kind == "ReLU":
        return (2, [numbers[0]]) if numbers.get(0) else (1, [])
    if layer.kind == "Clip":
        return 3, [numbers.get(0, _LOWEST), numbers.get(1, _HIGHEST)]
    if layer.kind == "HardSwish":
        return 6, [numbers[0], numbers[1]]
    return {"Sigmoid": (4, []), "Mish": (5, [])}.get(layer.kind)
