"""What is known while a graph is written: which blob holds a value, and in which dimensions.

An ncnn blob has one to four dimensions and no batch. So a value of shape [1, C, H, W] is held as C × H × W: the first
dimension, one, is left out, and other ones where more than four are left. `kept` says which. Row-major order stays, so
that any two ways to hold a value differ by a Reshape alone; it is written where a layer needs another way (`view`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.ncnn.file import Dims, File, Params, Weights
from edgec_targets.emitters.ncnn.registry import Refusal
from edgec_targets.emitters.ncnn.values import array, shape

MOST = 4
"""Dimensions of a blob."""


@dataclass(frozen=True)
class Blob:
    """A blob and its dimensions, outermost first."""

    name: str
    dims: Dims


def kept(dims: Sequence[int]) -> tuple[int, ...]:
    """The axes that a value of this shape is held with. Raises Refusal where more than four are larger than one."""
    axes = list(range(len(dims)))
    if len(axes) > 1 and dims[0] == 1:
        axes = axes[1:]
    while len(axes) > MOST:
        lone = next((axis for axis in axes if dims[axis] == 1), None)
        if lone is None:
            raise Refusal(f"A value of shape {list(dims)} has more dimensions than ncnn's four.")
        axes.remove(lone)
    return tuple(axes)


def held(dims: Sequence[int]) -> Dims:
    """The dimensions that a value of this shape is held in; a scalar has one of one."""
    return tuple(dims[axis] for axis in kept(dims)) or (1,)


class Context:
    """The file being written and where each value is."""

    def __init__(self, file: File) -> None:
        self.file = file
        self._blobs: dict[ir.Value, Blob] = {}
        self._views: dict[tuple[str, Dims], str] = {}

    def put(self, value: ir.Value, blob: Blob) -> None:
        """Say where a value is. Raises Refusal where ONNX gave it another number of elements than the layer has."""
        if math.prod(shape(value)) != math.prod(blob.dims):
            raise Refusal(f"Its result would be {list(blob.dims)} in ncnn; ONNX says {list(shape(value))}.")
        self._blobs[value] = blob

    def get(self, value: ir.Value) -> Blob:
        """Where a value is; a constant is stored first. Raises Refusal for constants that are no floats."""
        if value not in self._blobs:
            data = array(value)
            if data is None:
                raise Refusal(f"'{value.name}' comes from outside this graph.")
            if data.dtype != np.float32:
                raise Refusal(f"The constant '{value.name}' is {data.dtype}; ncnn computes with float32.")
            self._blobs[value] = self.constant(data, held(data.shape))
        return self._blobs[value]

    def constant(self, data: np.ndarray, dims: Dims) -> Blob:
        """A constant as a blob of these dimensions."""
        return self.op("MemoryData", [], dims, _sizes(dims), [Weights(data.reshape(dims), tagged=False)])

    def view(self, value: ir.Value, dims: Dims) -> Blob:
        """A value in these dimensions, which have as many elements."""
        return self.reshape(self.get(value), dims)

    def reshape(self, blob: Blob, dims: Dims) -> Blob:
        """A blob in other dimensions; written once for all who want it so."""
        if blob.dims == dims:
            return blob
        if math.prod(dims) != math.prod(blob.dims):
            raise Refusal(f"A blob of {list(blob.dims)} can't be seen as {list(dims)}.")
        key = (blob.name, dims)
        if key not in self._views:
            self._views[key] = self.file.layer("Reshape", [blob.name], [dims], _sizes(dims))[0]
        return Blob(self._views[key], dims)

    def standard(self, value: ir.Value) -> Blob:
        """A value in the dimensions that `held` gives its shape."""
        return self.view(value, held(shape(value)))

    def axis(self, value: ir.Value, axis: int) -> int | None:
        """Which dimension of `standard` an ONNX axis is; None where it was left out (its size is one)."""
        dims = shape(value)
        axes = kept(dims)
        axis = axis + len(dims) if axis < 0 else axis
        return axes.index(axis) if axis in axes else None

    def op(
        self,
        kind: str,
        inputs: Sequence[Blob],
        dims: Dims,
        params: Params | None = None,
        weights: Sequence[Weights] = (),
    ) -> Blob:
        """Add a layer with one result of these dimensions."""
        return Blob(self.file.layer(kind, [blob.name for blob in inputs], [dims], params, weights)[0], dims)

    def unary(self, node: ir.Node, kind: str, params: Params | None = None, weights: Sequence[Weights] = ()) -> None:
        """Add a layer that works on each element of the node's first input."""
        source = node.inputs[0]
        assert source is not None
        blob = self.get(source)
        self.put(node.outputs[0], self.op(kind, [blob], blob.dims, params, weights))


def _sizes(dims: Dims) -> Params:
    """ncnn's names for dimensions, outermost first: w; h, w; c, h, w; c, d, h, w."""
    keys = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}[len(dims)]
    return dict(zip(keys, dims, strict=True))
