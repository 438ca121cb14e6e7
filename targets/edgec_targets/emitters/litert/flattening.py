"""An image flattened for a matrix product: the matrix's columns are put in the image's own order, and nothing is moved.

Flatten of N C H W gives rows in the order C H W. Where the image lies as N H W C, a transposition of the image at each
call can be had by one of the weights, when the file is written.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.registry import Perm, Refusal, channels_last, identity
from edgec_targets.emitters.litert.values import array, integer, shape, stored


def layouts(node: ir.Node) -> tuple[Perm, ...] | None:
    """The layouts that the input of a Reshape or Flatten may have; None where only ONNX's will do."""
    value, result = node.inputs[0], node.outputs[0]
    try:
        dims, out = shape(value), shape(result)
    except Refusal:
        return None
    if len(dims) not in (3, 4) or len(out) != 2 or dims[0] != out[0] or result.is_graph_output() or not result.uses():
        return None
    if not all(use.idx == 0 and _by_constant(use.node) for use in result.uses()):
        return None
    return identity(len(dims)), channels_last(len(dims))


def columns(value: ir.Value | None, perm: Perm) -> np.ndarray | None:
    """Which column of the matrix belongs to each element of an image of value `value` that lies in layout `perm`."""
    if value is None or perm == identity(len(perm)):
        return None
    dims = shape(value)
    places = np.arange(int(np.prod(dims[1:]))).reshape(1, *dims[1:])
    return places.transpose(perm).reshape(-1)


def _by_constant(node: ir.Node) -> bool:
    """Gemm or MatMul by a constant matrix."""
    if node.op_type not in ("Gemm", "MatMul") or node.domain not in ("", "ai.onnx") or integer(node, "transA", 0):
        return False
    data = array(stored(node.inputs[1]))
    return data is not None and data.ndim == 2
