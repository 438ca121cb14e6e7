"""Pixels to channels and back."""

from __future__ import annotations

import onnx_ir as ir

from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.ops.convolution import spatial
from edgec_targets.emitters.litert.registry import channels_last, operator
from edgec_targets.emitters.litert.values import integer, text


@operator("DepthToSpace", layout=spatial)
def depth_to_space(ctx: Context, node: ir.Node) -> None:
    """DEPTH_TO_SPACE, whose order of channels is ONNX's DCR; CRD by a transposition of six axes."""
    last, block = channels_last(4), integer(node, "blocksize", 1)
    x, out = ctx.input(node, 0, last), ctx.result(node, last)
    if text(node, "mode", "DCR") == "DCR":
        ctx.op("DEPTH_TO_SPACE", [x], (), "DepthToSpaceOptions", out=out, blockSize=block)
        return
    n, h, w, c = x.shape
    apart = ctx.reshape(x, (n, h, w, c // block**2, block, block))
    ctx.reshape(ctx.transpose(apart, (0, 1, 4, 2, 5, 3)), out.shape, out)


@operator("SpaceToDepth", layout=spatial)
def space_to_depth(ctx: Context, node: ir.Node) -> None:
    """SPACE_TO_DEPTH in the order DCR; CRD by a transposition of six axes."""
    last = channels_last(4)
    x, out = ctx.input(node, 0, last), ctx.result(node, last)
    block = integer(node, "blocksize", 1)
    if text(node, "mode", "DCR") == "DCR":
        ctx.op("SPACE_TO_DEPTH", [x], (), "SpaceToDepthOptions", out=out, blockSize=block)
        return
    n, h, w, c = x.shape
    apart = ctx.reshape(x, (n, h // block, block, w // block, block, c))
    ctx.reshape(ctx.transpose(apart, (0, 1, 3, 5, 2, 4)), out.shape, out)
