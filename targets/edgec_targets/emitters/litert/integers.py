"""Quantized integers as the file holds them, and the real numbers they stand for."""

from __future__ import annotations

import numpy as np

from edgec_targets.emitters.litert.file import Quantization


def signed(data: np.ndarray) -> np.ndarray:
    """u8 with zero point z is s8 with zero point z − 128: the same real numbers; u16 alike."""
    if data.dtype == np.uint16:
        return (data.astype(np.int32) - (1 << 15)).astype(np.int16)
    return (data.astype(np.int16) - 128).astype(np.int8) if data.dtype == np.uint8 else data


def real(data: np.ndarray, found: Quantization) -> np.ndarray:
    """What quantized integers stand for, in float32 as DequantizeLinear computes it."""
    shape = [-1 if n == found.axis else 1 for n in range(data.ndim)] if len(found.scale) > 1 else [1] * data.ndim
    scale, zero = np.array(found.scale, np.float32).reshape(shape), np.array(found.zero_point).reshape(shape)
    return np.asarray((signed(data).astype(np.int64) - zero).astype(np.float32) * scale)
