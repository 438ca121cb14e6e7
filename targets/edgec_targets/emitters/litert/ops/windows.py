"""Strides, dilations and padding of convolutions and pools, and how TFLite says them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.registry import Refusal
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.values import integers, text


@dataclass(frozen=True)
class Window:
    """Of two spatial axes: one axis is given a leading one of length 1."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]

    @property
    def padded(self) -> bool:
        """Whether anything is padded."""
        return any(self.before) or any(self.after)

    def same(self, size: Sequence[int], out: Sequence[int]) -> bool:
        """Whether TFLite's SAME pads the same: ceil(size / stride) results, the odd element at the end."""
        for n in range(2):
            effective = (self.kernel[n] - 1) * self.dilations[n] + 1
            want = -(-size[n] // self.strides[n])
            total = max((want - 1) * self.strides[n] + effective - size[n], 0)
            if (self.before[n], self.after[n], out[n]) != (total // 2, total - total // 2, want):
                return False
        return True


def read(node: ir.Node, size: Sequence[int], kernel: Sequence[int]) -> Window:
    """The window of a Conv or pool over spatial axes of these sizes; auto_pad worked out."""
    axes = len(kernel)
    if axes not in (1, 2):
        raise Refusal(f"It has {axes} spatial axes; TFLite's kernel has two.")
    strides = integers(node, "strides") or [1] * axes
    dilations = integers(node, "dilations") or [1] * axes
    pads = integers(node, "pads") or [0] * (2 * axes)
    auto = text(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        pads = [0] * (2 * axes)
    elif auto.startswith("SAME"):
        begin, end = [], []
        for n in range(axes):
            effective = (kernel[n] - 1) * dilations[n] + 1
            total = max((-(-size[n] // strides[n]) - 1) * strides[n] + effective - size[n], 0)
            small, large = total // 2, total - total // 2
            begin.append(large if auto == "SAME_LOWER" else small)
            end.append(small if auto == "SAME_LOWER" else large)
        pads = begin + end
    if any(p < 0 for p in pads):
        raise Refusal("It has negative padding.", "Slice the input instead.")

    def two(values: Sequence[int], fill: int) -> tuple[int, int]:
        return (fill, values[0]) if axes == 1 else (values[0], values[1])

    return Window(two(kernel, 1), two(strides, 1), two(dilations, 1), two(pads[:axes], 0), two(pads[axes:], 0))


def pad(
    ctx: Context, tensor: Tensor, window: Window, out: Sequence[int], fill: float | None = None
) -> tuple[Tensor, int]:
    """N H W C padded where SAME or VALID don't say it, and the `padding` of the options.

    `fill` is what to pad with (None: real zeros, which is the zero point for integers).
    """
    names = schema().Padding
    if not window.padded:
        return tensor, int(names.VALID)
    if window.same(tensor.shape[1:3], out):
        return tensor, int(names.SAME)
    return explicit(ctx, tensor, window.before, window.after, fill), int(names.VALID)


def explicit(
    ctx: Context, tensor: Tensor, before: Sequence[int], after: Sequence[int], fill: float | None = None
) -> Tensor:
    """N H W C with a border of these widths."""
    widths = np.array([[0, 0], *zip(before, after, strict=True), [0, 0]], np.int32)
    dims = [d + int(w.sum()) for d, w in zip(tensor.shape, widths, strict=True)]
    if fill is None:
        return ctx.op("PAD", [tensor, ctx.numbers(widths)], dims, "PadOptions")
    value = ctx.file.constant(np.array([fill], tensor.dtype), tensor.quantization)
    return ctx.op("PADV2", [tensor, ctx.numbers(widths), value], dims, "PadV2Options")
