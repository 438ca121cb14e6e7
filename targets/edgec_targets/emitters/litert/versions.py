"""The version an operator is written with: the first one that has the types and features it uses.

An older engine then refuses the file by name and version instead of misreading it. The numbers are those of TFLite's
own `op_version.cc`; an operator that is not here is of version 1. A file has one version of an operator: the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

# operator -> (for floats and others, for 8-bit integers)
_VERSIONS: dict[str, tuple[int, int]] = {
    "ADD": (1, 2),
    "ARG_MAX": (1, 2),
    "AVERAGE_POOL_2D": (1, 2),
    "BATCH_MATMUL": (1, 2),
    "BROADCAST_TO": (2, 2),
    "CONCATENATION": (1, 2),
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (2, 3),
    "DEQUANTIZE": (2, 2),
    "DIV": (1, 1),
    "EQUAL": (1, 2),
    "FULLY_CONNECTED": (5, 5),
    "GATHER": (1, 2),
    "GREATER": (1, 2),
    "GREATER_EQUAL": (1, 2),
    "LEAKY_RELU": (1, 2),
    "LESS": (1, 2),
    "LESS_EQUAL": (1, 2),
    "LOGISTIC": (1, 2),
    "LOG_SOFTMAX": (1, 2),
    "MAXIMUM": (1, 2),
    "MAX_POOL_2D": (1, 2),
    "MEAN": (1, 2),
    "MINIMUM": (1, 2),
    "MUL": (1, 2),
    "NOT_EQUAL": (1, 2),
    "PAD": (1, 2),
    "PADV2": (1, 2),
    "QUANTIZE": (1, 2),
    "REDUCE_MAX": (1, 2),
    "REDUCE_MIN": (1, 2),
    "RELU": (1, 2),
    "RELU6": (1, 2),
    "RESIZE_BILINEAR": (3, 3),
    "RESIZE_NEAREST_NEIGHBOR": (3, 3),
    "SLICE": (1, 2),
    "SOFTMAX": (1, 2),
    "SPACE_TO_DEPTH": (1, 2),
    "SPLIT": (1, 2),
    "STRIDED_SLICE": (1, 2),
    "SUB": (1, 2),
    "SUM": (1, 2),
    "TANH": (1, 2),
    "TOPK_V2": (1, 2),
    "TRANSPOSE": (1, 2),
    "TRANSPOSE_CONV": (3, 3),
}

_WIDE = {
    "ADD": 3, "AVERAGE_POOL_2D": 3, "BATCH_MATMUL": 3, "CONCATENATION": 3, "CONV_2D": 4, "DEPTHWISE_CONV_2D": 5,
    "DEQUANTIZE": 3, "FULLY_CONNECTED": 7, "GATHER": 4, "MAX_POOL_2D": 3, "MEAN": 3, "MUL": 4, "PAD": 3, "PADV2": 3,
    "QUANTIZE": 2, "REDUCE_MAX": 3, "SLICE": 4, "STRIDED_SLICE": 4, "SUB": 5, "TRANSPOSE": 5,
}  # fmt: skip
"""Operators with 16-bit activations."""


def version(operator: str, dtypes: Sequence[str], ranks: Sequence[int] = ()) -> int:
    """The version for an operator whose inputs are of these NumPy types and ranks."""
    plain, integer = _VERSIONS.get(operator, (1, 1))
    found = integer if "int8" in dtypes else plain
    if "int16" in dtypes:
        found = max(found, _WIDE.get(operator, 1))
    if operator in ("ADD", "SUB", "MUL", "DIV") and max(ranks, default=0) > 4:
        found = max(found, {"ADD": 4, "SUB": 3, "MUL": 3, "DIV": 2}[operator])
    if operator in ("STRIDED_SLICE", "TRANSPOSE", "SLICE") and max(ranks, default=0) > 4:
        found = max(found, {"STRIDED_SLICE": 4, "TRANSPOSE": 4, "SLICE": 5}[operator])
    return found
