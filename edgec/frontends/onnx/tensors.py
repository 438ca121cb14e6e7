"""Is a TensorProto what it says: type, dimensions and the length of its data agree, sizes are sane."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from edgec.errors import BadInputError

MAX_BYTES = 2**46
"""64 TiB, the user address space of common 64-bit CPUs (2^47) halved: no value of a real model is larger."""

MAX_RANK = 64
"""ONNX Runtime's own tensors work far below; models in use have rank ≤ 8."""

_T = onnx.TensorProto
BITS: dict[int, int] = {
    _T.FLOAT: 32, _T.UINT8: 8, _T.INT8: 8, _T.UINT16: 16, _T.INT16: 16, _T.INT32: 32, _T.INT64: 64, _T.BOOL: 8,
    _T.FLOAT16: 16, _T.DOUBLE: 64, _T.UINT32: 32, _T.UINT64: 64, _T.COMPLEX64: 64, _T.COMPLEX128: 128,
    _T.BFLOAT16: 16, _T.FLOAT8E4M3FN: 8, _T.FLOAT8E4M3FNUZ: 8, _T.FLOAT8E5M2: 8, _T.FLOAT8E5M2FNUZ: 8,
    _T.UINT4: 4, _T.INT4: 4, _T.FLOAT4E2M1: 4, _T.FLOAT8E8M0: 8, _T.UINT2: 2, _T.INT2: 2,
}  # fmt: skip
"""Bits an element takes in `raw_data` (onnx.proto, TensorProto.DataType); strings have none."""

_FIELD: dict[int, str] = {
    _T.FLOAT: "float_data", _T.COMPLEX64: "float_data", _T.DOUBLE: "double_data", _T.COMPLEX128: "double_data",
    _T.INT64: "int64_data", _T.UINT32: "uint64_data", _T.UINT64: "uint64_data", _T.STRING: "string_data",
}  # fmt: skip
"""Where elements lie when not raw; everything else is in int32_data."""


def elements(dims: Sequence[int], where: str) -> int:
    """How many elements these dimensions make.

    Raises:
        BadInputError: a negative dimension, an absurd rank, or more than `MAX_BYTES` elements.
    """
    if len(dims) > MAX_RANK:
        raise BadInputError(f"{where} has {len(dims)} dimensions", f"the limit is {MAX_RANK}", code="E906")
    if any(d < 0 for d in dims):
        raise BadInputError(
            f"{where} has a negative dimension: {list(dims)}", "", "export the model again", code="E906"
        )
    if math.prod(d for d in dims if d) > MAX_BYTES:
        raise BadInputError(
            f"{where} has an absurd shape: {list(dims)}",
            f"that is more than 2^{MAX_BYTES.bit_length() - 1} elements",
            "the file is damaged, or the exporter is wrong",
            code="E906",
        )
    return math.prod(dims)


def unknown_type(where: str, number: int) -> BadInputError:
    """The error for a data type that this onnx package does not define."""
    return BadInputError(
        f"{where} has the unknown data type {number}",
        f"onnx {onnx.__version__} does not define it: the file is damaged, or newer than that",
        "update edgec and onnx, or export the model again",
        code="E906",
    )


def byte_length(tensor: onnx.TensorProto, where: str) -> int:
    """Bytes that `raw_data` (or the external file) must have for this tensor; checks type and dimensions."""
    if tensor.data_type not in BITS:
        if tensor.data_type == _T.STRING:
            raise BadInputError(
                f"{where}: strings can't be raw or external data",
                "ONNX keeps them in string_data",
                "export the model again",
                code="E906",
            )
        raise unknown_type(where, tensor.data_type)
    return (elements(tensor.dims, where) * BITS[tensor.data_type] + 7) // 8


def check(tensor: onnx.TensorProto, where: str) -> None:
    """Raise BadInputError where the data doesn't have the length that type and dimensions ask for."""
    if tensor.HasField("segment"):
        raise BadInputError(f"{where} is stored in segments", "no tool reads them", "export again", code="E906")
    if tensor.data_location == _T.EXTERNAL:
        byte_length(tensor, where)
        return
    if tensor.data_type == _T.STRING:
        want, have, unit = elements(tensor.dims, where), len(tensor.string_data), "strings"
        if tensor.HasField("raw_data"):
            raise BadInputError(
                f"{where}: strings can't be raw data",
                "ONNX keeps them in string_data",
                "export the model again",
                code="E906",
            )
    elif tensor.HasField("raw_data"):
        want, have, unit = byte_length(tensor, where), len(tensor.raw_data), "bytes"
    else:
        want, have, unit = _typed_length(tensor, where), len(getattr(tensor, _field(tensor))), "values"
    if want != have:
        raise BadInputError(
            f"{where} has {have} {unit} of data, not {want}",
            f"its shape is {list(tensor.dims)}, its type {_name(tensor.data_type)}",
            "the file is damaged, or the exporter is wrong",
            code="E906",
        )


def check_sparse(tensor: onnx.SparseTensorProto, where: str) -> None:
    """The same for a sparse tensor: its two parts, and the dense size it stands for."""
    elements(tensor.dims, where)
    check(tensor.values, f"the values of {where}")
    check(tensor.indices, f"the indices of {where}")


def _field(tensor: onnx.TensorProto) -> str:
    return _FIELD.get(tensor.data_type, "int32_data")


def _typed_length(tensor: onnx.TensorProto, where: str) -> int:
    byte_length(tensor, where)  # type and dimensions
    count, bits = elements(tensor.dims, where), BITS[tensor.data_type]
    if tensor.data_type in (_T.COMPLEX64, _T.COMPLEX128):
        return 2 * count
    return (count * bits + 7) // 8 if bits < 8 else count


def _name(data_type: int) -> str:
    return str(_T.DataType.Name(data_type)).lower()
