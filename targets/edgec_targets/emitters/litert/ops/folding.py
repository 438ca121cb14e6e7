"""Writing a convolution that is folded (`stems`): blocks of pixels as channels, then CONV_2D without a stride."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert import stems
from edgec_targets.emitters.litert.context import Context
from edgec_targets.emitters.litert.file import Tensor
from edgec_targets.emitters.litert.integers import signed
from edgec_targets.emitters.litert.ops import windows
from edgec_targets.emitters.litert.ops.common import dequantized
from edgec_targets.emitters.litert.registry import channels_last, identity
from edgec_targets.emitters.litert.values import array, shape, stored


def image(ctx: Context, node: ir.Node, plan: stems.Plan) -> Tensor:
    """The input, N H W C, of blocks as the plan has them."""
    dims = shape(node.inputs[0])
    rank = len(dims)
    x = ctx.get(node.inputs[0], identity(rank) if plan.plain else channels_last(rank))
    n, channels, size = dims[0], dims[1], (1, *dims[2:]) if rank == 3 else dims[2:]
    high, wide = plan.axes
    if plan.plain:
        x = _bordered(ctx, x, (0, 0, high.lead, wide.lead), (0, 0, high.end, wide.end))
    else:
        # XNNPACK pads the last axis by rows and any other one element by element: width and channels as one axis.
        x = ctx.reshape(x, (n, size[0], size[1] * channels))
        x = _bordered(ctx, x, (0, high.lead, wide.lead * channels), (0, high.end, wide.end * channels))
    rows = (size[0] + high.lead + high.end) // high.fold
    columns = (size[1] + wide.lead + wide.end) // wide.fold
    batch = (n,) if n > 1 else ()  # transpositions of fewer axes are quicker to plan
    b = len(batch)
    if plan.plain:
        x = ctx.reshape(x, (*batch, channels, rows, high.fold, columns, wide.fold))
        x = ctx.transpose(x, (*range(b), *(b + k for k in (1, 3, 2, 0, 4))))
    elif high.fold > 1:
        x = ctx.reshape(x, (*batch, rows, high.fold, columns, wide.fold * channels))
        x = ctx.transpose(x, (*range(b), *(b + k for k in (0, 2, 1, 3))))
    x = ctx.reshape(x, (n, rows, columns, high.fold * wide.fold * channels))
    if any((high.before, high.after, wide.before, wide.after)):
        x = windows.explicit(ctx, x, (high.before, wide.before), (high.after, wide.after))
    return x


def filters(ctx: Context, value: ir.Value | None, plan: stems.Plan) -> Tensor:
    """The filter to go with it: float, integer, or integers that the engine widens at load."""
    source = stored(value)
    data = array(source)
    assert data is not None and source is not None
    found = ctx.quantities.get(source)
    data = data[:, :, None] if data.ndim == 3 else data
    if found is None:
        return ctx.constant(stems.folded(data, plan))
    arranged = stems.folded(signed(data), plan)
    if source is value:
        return ctx.file.constant(arranged, found)
    return dequantized(ctx, arranged, found, identity(4))


def _bordered(ctx: Context, x: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """Padded with zeros (the zero point, for integers) and cropped."""
    if any(b < 0 for b in after):
        kept = [d + min(b, 0) for d, b in zip(x.shape, after, strict=True)]
        begin, size = ctx.numbers([0] * len(kept)), ctx.numbers(kept)
        x = ctx.op("SLICE", [x, begin, size], kept, "SliceOptions")
    if any(before) or any(b > 0 for b in after):
        widths = np.array([(a, max(b, 0)) for a, b in zip(before, after, strict=True)], np.int32)
        dims = [d + int(w.sum()) for d, w in zip(x.shape, widths, strict=True)]
        x = ctx.op("PAD", [x, ctx.numbers(widths)], dims, "PadOptions")
    return x
