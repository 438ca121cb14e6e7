"""What one kernel of an engine has to do: the unit in which profiles count, read off the files that ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Numbers = Literal["float", "int8", "dynamic"]
"""What a kernel computes with; "dynamic": float input quantized as the kernel runs, weights in integers."""


@dataclass(frozen=True)
class Work:
    """One kernel's work.

    Attributes:
        kind: "conv", "depthwise" or "product"; else the operator in lower case, or "call": a whole inference's own
            overhead. A word behind a dot tells apart what is computed in different ways: "add.wide", "add.narrow",
            "add.number": both operands have one shape, one is broadcast, one is a number; "conv.transposed";
            "depthwise.planes": channel by channel, where channels come first; "strided": gathered one by one.
        numbers: what it computes with.
        m: rows of the product: output pixels (all batches); otherwise elements of the larger side.
        n: columns: output channels of a group; otherwise the length of the last axis.
        k: input channels of a group, or the inner length of a product.
        taps: elements of a convolution's window; 1 for others.
        groups: of a convolution; how many products of a batched one.
        lines: lines of output pixels, all images and batches.
        gathered: whether the convolution's input is not its matrix already (window, stride, padding).
    """

    kind: str
    numbers: Numbers
    m: int
    n: int = 1
    k: int = 1
    taps: int = 1
    groups: int = 1
    lines: int = 1
    gathered: bool = False

    @property
    def name(self) -> str:
        """What its coefficients are called after."""
        return f"{self.kind} {self.numbers}"


def pair(sizes: Sequence[int]) -> str:
    """How two operands of these many elements meet: "wide", "number" or "narrow"."""
    if min(sizes) == 1 < max(sizes):
        return "number"
    return "wide" if len(set(sizes)) == 1 else "narrow"


def depthwise(window: Sequence[int], strides: Sequence[int]) -> str:
    """How onnxruntime computes a depthwise convolution in float: a kernel of its own, lines copied, elements picked."""
    if strides and strides[-1] != 1:
        return "strided"
    return "plain" if list(window) == [3, 3] and all(s == 1 for s in strides) else "planes"
