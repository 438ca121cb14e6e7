"""What a file takes in memory when it is loaded and run: an estimate in bytes, the same for the same file.

The mapped file; the copies of weights that XNNPACK arranges for its kernels; constants that are widened at load, which
stay; and the peak of live activations over the operators' order, inputs and outputs throughout. It is 0.4 to 1.3 times
what the zoo's larger models took on x86-64: the engine's code and its tables of pointers are not in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgec_targets.emitters.litert.file import File, Operation, Tensor

_ARRANGED = frozenset({"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"})
"""Operators whose weights are copied."""


def estimate(file: File, size: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    """Bytes for a file of `size` bytes with these inputs and outputs."""
    operations = file.needed(outputs)
    kept, copied = set[int](), 0
    for operation in operations:
        constant = [t for t in operation.inputs if t is not None and (t.data is not None or t.index in kept)]
        if len(constant) == sum(t is not None for t in operation.inputs):
            kept |= {t.index for t in operation.outputs}
        elif operation.code in _ARRANGED:
            copied += sum(_bytes(t) for t in constant)
    stay = {t.index: _bytes(t) for o in operations for t in o.outputs if t.index in kept}
    return size + copied + sum(stay.values()) + _peak(operations, kept, inputs, outputs)


def _peak(operations: Sequence[Operation], kept: set[int], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> int:
    throughout = {t.index: _bytes(t) for t in (*inputs, *outputs)}
    last: dict[int, int] = {}
    for place, operation in enumerate(operations):
        for tensor in operation.inputs:
            if tensor is not None:
                last[tensor.index] = place
    live = peak = sum(throughout.values())
    dying: dict[int, int] = {}
    for place, operation in enumerate(operations):
        for tensor in operation.outputs:
            if tensor.index not in throughout and tensor.index not in kept:
                live += _bytes(tensor)
                end = last.get(tensor.index, place)
                dying[end] = dying.get(end, 0) + _bytes(tensor)
        peak = max(peak, live)
        live -= dying.pop(place, 0)
    return peak


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
