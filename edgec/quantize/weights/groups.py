"""The arithmetic of weights in groups: w ≈ scale · (q − zero point), one scale for each group along the input axis.

A weight is looked at as a matrix, a row for each output feature (or table entry), whose groups lie side by side in the
row. Rounding and the way back are, bit for bit, those of ONNX's QuantizeLinear and DequantizeLinear (opset 21,
`block_size`): half to even, in float32. One group a row is per channel; `per_tensor` has one scale for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.quantize.arithmetic import TINY


@dataclass(frozen=True)
class Format:
    """How the integers of a weight are stored.

    Attributes:
        bits: 4 or 8.
        group: features that share a scale; 0: the whole row.
        symmetric: signed integers without a zero point; else unsigned ones with a zero point a group.
    """

    bits: int
    group: int = 0
    symmetric: bool = True

    @property
    def low(self) -> int:
        """The smallest integer."""
        return -int(2 ** (self.bits - 1)) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest integer."""
        return self.low + int(2**self.bits) - 1

    def groups(self, features: int) -> int:
        """How many groups a row of so many features has; the last one may be short."""
        return -(-features // self.group) if self.group else 1

    def width(self, features: int) -> int:
        """Features of a full group."""
        return self.group or features

    def nbytes(self, rows: int, features: int, *, scale_bytes: int = 4) -> int:
        """Bytes of integers, scales and zero points of a matrix in the file."""
        count = rows * self.groups(features)
        zero = 0 if self.symmetric else -(-count * self.bits // 8)
        return -(-rows * features * self.bits // 8) + count * scale_bytes + zero

    def name(self) -> str:
        """For tables: int4/32, uint4/32, int8."""
        kind = f"{'' if self.symmetric else 'u'}int{self.bits}"
        return f"{kind}/{self.group}" if self.group else kind


@dataclass(frozen=True)
class Grouped:
    """A matrix in integers.

    Attributes:
        format: of the integers.
        integers: int16 (rows, features); int16 holds every format and what lies between them.
        scale: float32 (rows, groups), positive and normal.
        zero: int16 (rows, groups); zeros if symmetric.
    """

    format: Format
    integers: np.ndarray
    scale: np.ndarray
    zero: np.ndarray

    def dequantized(self) -> np.ndarray:
        """float32 (rows, features), as DequantizeLinear gives it."""
        features = self.integers.shape[1]
        width = self.format.width(features)
        scale, zero = (spread(a, width, features) for a in (self.scale, self.zero))
        result: np.ndarray = (self.integers - zero).astype(np.float32) * scale
        return result


def spread(values: np.ndarray, width: int, features: int) -> np.ndarray:
    """(rows, groups) → something that broadcasts to (rows, features)."""
    return values if values.shape[1] == 1 else np.repeat(values, width, axis=1)[:, :features]


def quantize(weight: np.ndarray, scale: np.ndarray, zero: np.ndarray, format: Format) -> Grouped:
    """Round a matrix to given scales and zero points.

    Args:
        weight: float32 (rows, features), finite.
        scale: float32 (rows, groups).
        zero: integers (rows, groups).
        format: of the integers.
    """
    features = weight.shape[1]
    width = format.width(features)
    wide = spread(scale, width, features)
    with np.errstate(over="ignore"):  # infinity saturates as it should
        steps = np.rint(np.asarray(weight, np.float32) / wide)
    integers = np.clip(steps + spread(zero, width, features), format.low, format.high)
    return Grouped(format, integers.astype(np.int16), np.asarray(scale, np.float32), np.asarray(zero, np.int16))


def blocks(matrix: np.ndarray, format: Format, fill: float = 0.0) -> np.ndarray:
    """(rows, features) → (rows, groups, width), the short last group filled up."""
    rows, features = matrix.shape
    width, count = format.width(features), format.groups(features)
    missing = width * count - features
    padded = np.pad(matrix, ((0, 0), (0, missing)), constant_values=fill) if missing else matrix
    return padded.reshape(rows, count, width)


def usable(scale: np.ndarray) -> np.ndarray:
    """Scales as float32: 1 where a group is all zero, never subnormal."""
    with np.errstate(over="ignore"):
        narrow = np.asarray(scale, np.float32)
    return np.where(narrow == 0, np.float32(1), np.maximum(narrow, np.float32(TINY))).astype(np.float32)
