"""Parts of a TFLite file in the schema's classes, and its bytes."""

from __future__ import annotations

import functools
import hashlib
import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_ALIGNMENT = 16
"""Bytes. What schema.fbs asks of buffers (`force_align: 16`), so that kernels may read a mapped file in place."""


def quantization(s: Any, given: Any) -> Any:
    """A tensor's `QuantizationParameters`, or None."""
    if given is None:
        return None
    made = s.QuantizationParametersT()
    made.scale = np.array(given.scale, np.float32)
    made.zeroPoint = np.array(given.zero_point, np.int64)
    made.quantizedDimension = given.axis
    return made


def buffer(s: Any, model: Any, known: dict[bytes, int], data: np.ndarray | None) -> int:
    """The number of the buffer with this content; 0 is empty."""
    if data is None:
        return 0
    content = np.ascontiguousarray(data).astype(data.dtype.newbyteorder("<"), copy=False).reshape(-1).view(np.uint8)
    key = digest(content)
    if key not in known:
        made = _aligned(s)()
        made.data = content
        known[key] = len(model.buffers)
        model.buffers.append(made)
    return known[key]


def digest(array: np.ndarray) -> bytes:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).digest()


@functools.cache
def _aligned(s: Any) -> type:
    """BufferT whose data begin at a multiple of 16: flatc's Python code forgets the schema's `force_align`."""

    class Aligned(s.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the schema's own name
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data.tobytes()
            data = builder.EndVector()
            s.BufferStart(builder)
            s.BufferAddData(builder, data)
            return s.BufferEnd(builder)

    return Aligned


def signature(
    s: Any, numbers: Mapping[int, int], inputs: Sequence[tuple[str, Any]], outputs: Sequence[tuple[str, Any]]
) -> Any:
    """The names by which interpreters find inputs and outputs."""

    def entry(name: str, tensor: Any) -> Any:
        made = s.TensorMapT()
        made.name, made.tensorIndex = name, numbers[tensor.index]
        return made

    made = s.SignatureDefT()
    made.signatureKey, made.subgraphIndex = "serving_default", 0
    made.inputs = [entry(*pair) for pair in inputs]
    made.outputs = [entry(*pair) for pair in outputs]
    return made


def packed(model: Any) -> bytes:
    """The flatbuffer."""
    flatbuffers = importlib.import_module("flatbuffers")  # without types
    size = sum(b.data.nbytes for b in model.buffers if b.data is not None)
    builder = flatbuffers.Builder(size + (1 << 20))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
