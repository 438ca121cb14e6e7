"""Tensors of types that numpy lacks, in and out of ONNX Runtime: bfloat16, float8, and types below eight bits.

They go as OrtValues, whose memory is filled and read directly. Arrays are those of `ml_dtypes` where it is
installed; without it bfloat16 travels as the bits in uint16, float8 as the bits in uint8, and types below eight bits
as one uint8 (int8 if signed) a value.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from edgec_runtime import dtypes
from edgec_runtime.engines import base

# onnx.TensorProto.DataType
ONNX_TYPE = {
    "bfloat16": 16, "float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20, "uint4": 21,
    "int4": 22, "float4e2m1": 23, "float8e8m0": 24, "uint2": 25, "int2": 26,
}  # fmt: skip
NAMES = {number: name for name, number in ONNX_TYPE.items()}


def runner(session: Any, inputs: Sequence[base.Tensor]) -> Callable[[Sequence[str], Mapping[str, Any]], list[Any]]:
    """`Executable.run` for a session some of whose tensors numpy has no type for."""
    kinds = {tensor.name: tensor.dtype for tensor in inputs}

    def run(names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        values = {name: _value(array, kinds[name]) for name, array in feeds.items()}
        return [_array(value) for value in session.run_with_ort_values(names, values)]

    return run


def _value(array: Any, dtype: str) -> Any:
    import onnxruntime

    values: Any = onnxruntime
    if dtype not in ONNX_TYPE:
        return values.OrtValue.ortvalue_from_numpy(array)
    from edgec_runtime.arrays import pack

    value = values.OrtValue.ortvalue_from_shape_and_type(list(array.shape), ONNX_TYPE[dtype])
    raw = pack(array, dtype)
    if raw:
        ctypes.memmove(value.data_ptr(), raw, len(raw))
    return value


def _array(value: Any) -> Any:
    dtype = NAMES.get(value.element_type())
    if dtype is None:
        return value.numpy()
    from edgec_runtime.arrays import unpack

    shape = tuple(value.shape())
    size = dtypes.nbytes(dtype, dtypes.count(shape))
    return unpack(ctypes.string_at(value.data_ptr(), size) if size else b"", dtype, shape)
