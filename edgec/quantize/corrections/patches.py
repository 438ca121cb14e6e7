"""A layer as a matrix product: the rows of its input that make one position of its result (im2col), sampled."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True)
class Geometry:
    """How a layer walks over its input.

    Attributes:
        groups: of channels, each with weights of its own; 1 for Gemm and MatMul.
        kernel: spatial extent; () for Gemm and MatMul.
        strides: per spatial axis.
        dilations: per spatial axis.
        pads: (before, after) per spatial axis.
    """

    groups: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()


def geometry(node: ir.Node, weight: tuple[int, ...], x: tuple[int, ...]) -> Geometry:
    """The geometry of a Conv, Gemm or MatMul for an input shape.

    Args:
        node: the layer.
        weight: its weight's shape.
        x: the input's shape; matters for auto_pad alone.
    """
    if node.op_type != "Conv":
        return Geometry(1, ())
    kernel = weight[2:]
    ones = [1] * len(kernel)
    strides, dilations = _ints(node, "strides", ones), _ints(node, "dilations", ones)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    flat = _ints(node, "pads", [0] * 2 * len(kernel))
    pads = list(zip(flat[: len(kernel)], flat[len(kernel) :], strict=True))
    attribute = node.attributes.get("auto_pad")
    mode = "NOTSET" if attribute is None else attribute.as_string()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        sums = [max((ceil(n / s) - 1) * s + e - n, 0) for n, s, e in zip(x[2:], strides, extent, strict=True)]
        pads = [(t // 2, t - t // 2) if mode == "SAME_UPPER" else (t - t // 2, t // 2) for t in sums]
    elif mode == "VALID":
        pads = [(0, 0)] * len(kernel)
    group = node.attributes.get("group")
    return Geometry(1 if group is None else group.as_int(), kernel, tuple(strides), tuple(dilations), tuple(pads))


def rows(
    x: np.ndarray, y: np.ndarray, shape: Geometry, count: int, rng: np.random.Generator, node: ir.Node
) -> tuple[np.ndarray, np.ndarray]:
    """At most `count` positions of one sample: what the layer reads there, and what it should give.

    Args:
        x: input, (batch, channels, spatial…), or (…, features) for Gemm and MatMul.
        y: result wanted, (batch, out channels, spatial…) or (…, out).
        shape: the layer's geometry.
        count: how many positions at most.
        rng: which.
        node: the layer; a Gemm may transpose its input.

    Returns:
        (groups, positions, features of a group) and (positions, out channels), float32. Features are in the order of
        the weight's axes (channels of the group, kernel…).
    """
    if not shape.kernel:
        trans = node.attributes.get("transA")
        flat = x.T if trans is not None and trans.as_int() else x.reshape(-1, x.shape[-1])
        wanted = y.reshape(-1, y.shape[-1])
        chosen = _choose(len(flat), count, rng)
        return flat[None, chosen], wanted[chosen]
    spatial = y.shape[2:]
    chosen = _choose(y.shape[0] * int(np.prod(spatial)), count, rng)
    batch, *at = np.unravel_index(chosen, (y.shape[0], *spatial))
    padded = np.pad(x, [(0, 0), (0, 0), *shape.pads])
    taps = []
    for offset in product(*map(range, shape.kernel)):
        index = [p * s + o * d for p, s, o, d in zip(at, shape.strides, offset, shape.dilations, strict=True)]
        at_tap: Any = (batch, slice(None), *index)
        taps.append(padded[at_tap])
    window = np.stack(taps, -1)  # positions, channels, kernel
    grouped = window.reshape(len(chosen), shape.groups, -1).transpose(1, 0, 2)
    here: Any = (batch, slice(None), *at)
    return grouped, y[here]


def _choose(total: int, count: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(total) if total <= count else np.sort(rng.choice(total, count, replace=False))


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attributes.get(name)
    return default if attribute is None else list(attribute.as_ints())
