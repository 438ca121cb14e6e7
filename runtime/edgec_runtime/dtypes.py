"""The element types of tensors, by one name everywhere: manifest, golden files, engines.

The names are numpy's where numpy has the type ("float32", "uint8", "bool"), else ONNX's in lower case ("bfloat16",
"float8e4m3fn", "int4"), plus "string". Values of fewer than eight bits are packed, the first in the lowest bits, as
ONNX packs them; each tensor ends at a whole byte.
"""

from __future__ import annotations

BITS: dict[str, int] = {
    "bool": 8,
    "int2": 2,
    "uint2": 2,
    "int4": 4,
    "uint4": 4,
    "float4e2m1": 4,
    "int8": 8,
    "uint8": 8,
    "float8e4m3fn": 8,
    "float8e4m3fnuz": 8,
    "float8e5m2": 8,
    "float8e5m2fnuz": 8,
    "float8e8m0": 8,
    "int16": 16,
    "uint16": 16,
    "float16": 16,
    "bfloat16": 16,
    "int32": 32,
    "uint32": 32,
    "float32": 32,
    "int64": 64,
    "uint64": 64,
    "float64": 64,
    "complex64": 64,
    "complex128": 128,
    "string": 0,  # of any length
}

# What numpy itself calls them; the others come from the `ml_dtypes` package, under other names.
ML_DTYPES: dict[str, str] = {
    "bfloat16": "bfloat16",
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
    "int4": "int4",
    "uint4": "uint4",
    "int2": "int2",
    "uint2": "uint2",
}


def count(shape: tuple[int, ...]) -> int:
    """How many elements a shape has; 1 for rank 0."""
    elements = 1
    for size in shape:
        elements *= size
    return elements


def nbytes(dtype: str, elements: int) -> int:
    """Bytes that `elements` values take, packed. Not defined for strings."""
    return (elements * BITS[dtype] + 7) // 8
