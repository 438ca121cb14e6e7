"""FULLY_CONNECTED itself: the product of rows by a matrix, out × in."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import flattening
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor


def columns(ctx: Context, node: ir.Node) -> np.ndarray | None:
    """The order of the matrix's columns where its input is an image, flattened as it lies."""
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    perm = ctx.layouts.inputs.get((source, 0)) if source is not None else None
    if source is None or perm is None or flattening.layouts(source) is None:
        return None
    return flattening.columns(source.inputs[0], perm)


def fully_connected(
    ctx: Context, x: Tensor, w: Tensor, b: Tensor | None, out: Tensor | None, fused: int, *, keep: bool = False
) -> Tensor:
    """x · wᵀ + b over the last axis; `w` is out × in. `keep`: the axes before it stay as they are."""
    x = unflattened(ctx, x) if not keep else x
    dims = (*x.shape[:-1], w.shape[0]) if keep else (x.size // w.shape[1], w.shape[0])
    return ctx.op(
        "FULLY_CONNECTED",
        [x, w, b],
        dims,
        "FullyConnectedOptions",
        out=out,
        fusedActivationFunction=fused,
        keepNumDims=keep,
    )


def unflattened(ctx: Context, x: Tensor) -> Tensor:
    """What a Reshape to a matrix reads: the kernel flattens by itself."""
    before = ctx.file.producer(x)
    if before is None or before.code != "RESHAPE" or before.inputs[0] is None:
        return x
    source = before.inputs[0]
    return source if source.shape[-1] == x.shape[-1] and len(source.shape) <= 4 else x
