"""First layers: a convolution of few channels with a stride, as one of more channels, fewer taps and no stride.

XNNPACK's convolution walks over the filter's taps and, in each, over the channels: four at a time where there are dot
products. An image's three channels, a spectrogram's or a wave's one, leave little to do at each step. Pixels that a
stride steps over together become channels of one pixel (space to depth):

    3 × 3 taps, 3 channels, stride 2  →  2 × 2 taps, 12 channels, stride 1

The filter gets zeros where its blocks reach over it: each sum has the terms that it had, so integers are equal to the
bit. Along the width this is a reshape of N H W C; else one transposition, which an image given as N C H W needs anyway.
It is done where that takes fewer instructions. `INT8_DOT` and its kin are fitted to counts of LiteRT 2.3's kernels on
an emulated Cortex-A76 and A53 (within 15 %).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.ops import windows
from edgec_targets.emitters.litert.registry import Refusal
from edgec_targets.emitters.litert.values import array, integer, shape, stored

_KEY = "edgec.litert.stem"
_MOST_CHANNELS = 4
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16)
_GAIN = 0.97
"""Of the cost as it is: what folding must stay under."""


@dataclass(frozen=True)
class Kernels:
    """Instructions for 4 pixels by 16 results: once, a tap, a group of channels in a tap; how many are a group."""

    tile: float
    tap: float
    group: float
    channels: int


INT8_DOT = Kernels(247, 22, 14, 4)
INT8 = Kernels(164, 18, 23.4, 1)
FLOAT = Kernels(146, 45, 20.4, 1)
_NARROW, _WIDE = 9.0, 36.0
"""Instructions that a transposition takes for a piece of up to four bytes, and for a longer one."""
_STRAIGHT = {1: 6.0, 4: 4.2}
"""The same from N C H W to N H W C with few channels, by bytes an element."""


@dataclass(frozen=True)
class Axis:
    """How one spatial axis is folded.

    Elements are padded by `lead` and `end` (cropped, where negative), split into blocks of `fold`, and those padded by
    `before` and `after`. The filter has `taps` blocks and begins at element `shift` of its first.
    """

    fold: int
    lead: int
    end: int
    taps: int
    shift: int
    before: int
    after: int


@dataclass(frozen=True)
class Plan:
    """A folded convolution: from N C H W (`plain`) or N H W C."""

    height: Axis
    width: Axis
    plain: bool

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Both."""
        return self.height, self.width


def mark(graph: ir.Graph, integers: Collection[ir.Value], *, dot: bool) -> None:
    """Plan the convolutions that are worth it; `of` tells a node's plan. `dot`: the CPU has int8 dot products."""
    for node in graph:
        if node.op_type == "Conv" and node.domain in ("", "ai.onnx"):
            try:
                found = _plan(node, node.inputs[0] in integers, dot)
            except Refusal:  # the writer will say so
                continue
            if found is not None:
                node.meta[_KEY] = found


def of(node: ir.Node) -> Plan | None:
    """The node's plan; None where it stays as it is."""
    found = node.meta.get(_KEY)
    return found if isinstance(found, Plan) else None


def folded(data: np.ndarray, plan: Plan) -> np.ndarray:
    """A filter O × I × kH × kW as O × taps × taps × channels, in the order in which pixels are folded."""
    o, channels, *kernel = data.shape
    high, wide = plan.axes
    grown = np.zeros((o, channels, high.taps * high.fold, wide.taps * wide.fold), data.dtype)
    grown[:, :, high.shift : high.shift + kernel[0], wide.shift : wide.shift + kernel[1]] = data
    split = grown.reshape(o, channels, high.taps, high.fold, wide.taps, wide.fold)
    order = (0, 2, 4, 3, 1, 5) if plan.plain else (0, 2, 4, 3, 5, 1)
    return split.transpose(order).reshape(o, high.taps, wide.taps, -1)


def _plan(node: ir.Node, integers: bool, dot: bool) -> Plan | None:
    """The cheapest way, or None."""
    dims, filters, out = shape(node.inputs[0]), shape(node.inputs[1]), shape(node.outputs[0])
    source = stored(node.inputs[1])
    if array(source) is None or dims[1] > _MOST_CHANNELS or integer(node, "group", 1) != 1 or len(dims) not in (3, 4):
        return None
    if source is None or source.dtype not in ((ir.DataType.INT8,) if integers else _FLOATS):
        return None
    window = windows.read(node, dims[2:], filters[2:])
    if window.dilations != (1, 1) or window.strides == (1, 1):
        return None
    size = (1, dims[2]) if len(dims) == 3 else (dims[2], dims[3])
    outs = (1, out[2]) if len(out) == 3 else (out[2], out[3])
    kernels = FLOAT if not integers else INT8_DOT if dot else INT8
    plain, width = dims[1] > 1 and min(size) > 1 and _as_given(node.inputs[0]), 1 if integers else 4
    tiles = dims[0] * math.ceil(outs[0] * outs[1] / 4) * math.ceil(filters[0] / 16)

    def cost(axes: Sequence[Axis]) -> float:
        taps, channels = axes[0].taps * axes[1].taps, dims[1] * axes[0].fold * axes[1].fold
        tile = kernels.tile + taps * (kernels.tap + kernels.group * math.ceil(channels / kernels.channels))
        elements = dims[0] * dims[1] * math.prod(n + a.lead + a.end for n, a in zip(size, axes, strict=True))
        padded = elements if any(a.lead or a.end for a in axes) else 0
        if axes[0].fold == axes[1].fold == 1:
            moved = elements * _STRAIGHT[width] if plain else 0.0
        elif axes[0].fold == 1 and not plain:
            moved = 0.0  # a reshape
        else:
            piece = axes[1].fold * (1 if plain else dims[1])
            moved = elements / piece * (_NARROW if piece * width <= 4 else _WIDE)
        return tiles * tile + moved + padded

    ways = list(itertools.product(*(list(_axis(window, n, size[n], outs[n])) for n in range(2))))
    as_it_is = cost(ways[0])
    best = min(ways, key=cost)
    return Plan(best[0], best[1], plain) if cost(best) < _GAIN * as_it_is else None


def _axis(window: windows.Window, n: int, size: int, out: int) -> Iterator[Axis]:
    """The axis as it is, then folded by its stride, with the padding before it among the elements or not."""
    kernel, stride, before = window.kernel[n], window.strides[n], window.before[n]
    yield Axis(1, 0, 0, kernel, 0, before, window.after[n])
    if stride == 1:
        return
    for lead in sorted({0, before % stride}):
        blocks = -(-(before - lead) // stride)
        shift = stride * blocks - (before - lead)
        taps = (kernel - 1 + shift) // stride + 1
        wanted = out + taps - 1 - blocks
        have = -(-(size + lead) // stride)
        taken = min(wanted, have)
        if taken > 0:
            yield Axis(stride, lead, taken * stride - size - lead, taps, shift, blocks, wanted - taken)


def _as_given(value: ir.Value | None) -> bool:
    """Whether the value is a graph input, in ONNX's own layout, or made of one element by element for this reader."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or len(value.uses()) != 1 or len(node.outputs) != 1 or not node.inputs:
            return False
        first = node.inputs[0]
        if node.op_type in _MOVING or first is None or first.shape is None or first.shape != value.shape:
            return False
        value = first
    return value is not None and len(value.uses()) == 1


_MOVING = ("Transpose", "Conv", "MaxPool", "AveragePool", "Reshape", "Resize")
