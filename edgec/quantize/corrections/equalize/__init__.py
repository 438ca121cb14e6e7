"""Cross-layer equalization: the same float model, its channels scaled so that one scale a tensor serves them all.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721),
section 4.1: a positive factor by channel passes through Relu and its like, so W₁ may be scaled by it and W₂ by its
inverse. Where channels span very different ranges, one scale for the tensor leaves the narrow ones a few steps;
depthwise networks are the known case, and weights with one scale a tensor suffer as the values do.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from edgec.data import Dataset
from edgec.quantize import layers
from edgec.quantize.corrections.equalize.absorb import absorb
from edgec.quantize.corrections.equalize.extremes import Extremes, channel_extremes
from edgec.quantize.corrections.equalize.linear import linear, new_constant
from edgec.quantize.corrections.equalize.scales import by_activations, by_weights
from edgec.quantize.corrections.equalize.ties import Group, groups
from edgec.quantize.session import Session

By = Literal["weights", "activations"]
# The scaled model may differ from the given one by so much of its largest output: float32's rounding, in other places.
TOLERANCE = 1e-3
# Samples that both models are compared on.
COMPARED = 4


@dataclass(frozen=True)
class Scaled:
    """A group of values that was scaled.

    Attributes:
        name: of its first value.
        channels: how many.
        largest: the largest factor of a channel over the smallest.
    """

    name: str
    channels: int
    largest: float


@dataclass(frozen=True)
class Equalized:
    """What equalization did.

    Attributes:
        model: computes the same as the one given; that one itself where nothing could be scaled, or where the two
            differed on the data by more than `TOLERANCE`.
        by: what the factors come from.
        scaled: the groups, in graph order.
        absorbed: name of a Relu's result -> channels whose offset moved into the layer behind.
        difference: largest difference of the outputs over the largest output, on samples; NaN without data.
    """

    model: ir.Model
    by: By
    scaled: tuple[Scaled, ...]
    absorbed: dict[str, int]
    difference: float

    @property
    def changed(self) -> bool:
        """Whether the model is another than the one given."""
        return bool(self.scaled or self.absorbed)

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        return {
            "by": self.by,
            "groups": [{"name": s.name, "channels": s.channels, "spread": round(s.largest, 3)} for s in self.scaled],
            "absorbed": dict(self.absorbed),
            "difference": None if np.isnan(self.difference) else self.difference,
        }


def equalize(
    model: ir.Model,
    data: Dataset | None = None,
    *,
    by: By = "weights",
    alpha: float = 0.5,
    biases: bool = True,
    extremes: Extremes | None = None,
) -> Equalized:
    """An equivalent float model whose channels span more alike. Deterministic; names of values stay.

    Args:
        model: float model with shapes; not changed.
        data: calibration feeds. Needed where factors come from values; without it, groups with bounds (ReLU6) stay as
            they are, no bias is absorbed, and the result is not compared.
        by: "weights": √(r₂/r₁) of the layers on both sides, best where a tensor of weights has one scale.
            "activations": what the values take against the weights behind, best with one scale per output channel.
        alpha: with "activations": 1 looks at the values alone.
        biases: absorb high biases as well.
        extremes: of `channel_extremes(model, data)`, where they were taken already.

    Raises:
        ValueError: factors from values are asked for without data, or alpha is not in 0 … 1.
        BadInputError: the data is not what the model wants.
    """
    if not 0 <= alpha <= 1:
        raise ValueError("alpha must be in 0 … 1")
    if by == "activations" and data is None:
        raise ValueError("factors from values need data")
    copy = model.clone()
    found = groups(copy)
    nothing = Equalized(model, by, (), {}, float("nan"))
    before = extremes or {}
    if extremes is None and data is not None:
        before = channel_extremes(model, data)
    factors = by_weights(found, before) if by == "weights" else by_activations(found, before, alpha)
    linears = {layer.node: layer for g in found for layer in (*g.producers, *g.consumers)}
    scaled = []
    for group, factor in zip(found, factors, strict=True):
        _scale_addends(copy.graph, group, factor)
        if (largest := float(factor.max() / factor.min())) > 1 + 1e-6:
            scaled.append(Scaled(group.name, group.channels, largest))
    absorbed: dict[str, int] = {}
    if biases and before:
        linears |= {n: made for n in copy.graph if n not in linears and (made := linear(n)) is not None}
        absorbed = absorb(copy, linears, before | _after(found, factors, before))
    if not scaled and not absorbed:
        return nothing
    for layer in linears.values():
        layer.store(copy.graph)
    _drop_unused(copy.graph)
    difference = float("nan") if data is None else compare(model, copy, data)
    if difference > TOLERANCE or (data is not None and np.isnan(difference)):
        return Equalized(model, by, (), {}, difference)
    return Equalized(copy, by, tuple(scaled), absorbed, difference)


def compare(model: ir.Model, other: ir.Model, data: Dataset) -> float:
    """The largest difference of two models' float outputs over the largest output, on the first samples."""
    a, b = Session(model), Session(other)
    worst = 0.0
    for feed in islice(data, COMPARED):
        for x, y in zip(a.run(feed), b.run(feed), strict=True):
            if x.dtype.kind == "f" and x.size:
                scale = max(float(np.abs(x).max()), float(np.finfo(np.float32).tiny))
                worst = max(worst, float(np.abs(x.astype(np.float64) - y).max()) / scale)
    return worst


def _scale_addends(graph: ir.Graph, group: Group, factor: np.ndarray) -> None:
    """Constants that are added inside a group take its factor."""
    for node, index in group.addends:
        value = node.inputs[index]
        array = layers.constant(value)
        assert array is not None and value is not None
        result = node.outputs[0]
        assert result.shape is not None
        shape = [1] * len(result.shape)
        shape[group.axis] = group.channels
        made = (array * factor.reshape(shape)).astype(array.dtype)
        node.replace_input_with(index, new_constant(graph, f"{value.name}_equalized", made))


def _after(found: list[Group], factors: list[np.ndarray], before: Extremes) -> Extremes:
    """The extremes of the values that were scaled."""
    result = {}
    for group, factor in zip(found, factors, strict=True):
        for name in (str(v.name) for v in group.values):
            if name in before:
                low, high = before[name]
                result[name] = low * factor, high * factor
    return result


def _drop_unused(graph: ir.Graph) -> None:
    for value in list(graph.initializers.values()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input() and value.name is not None:
            del graph.initializers[value.name]


__all__ = ["Equalized", "Group", "Scaled", "channel_extremes", "compare", "equalize", "groups"]
