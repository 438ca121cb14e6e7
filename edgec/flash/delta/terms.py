"""The terms of an addition, as `edgec_runtime.delta.added` takes them back."""

from __future__ import annotations

import numpy as np


def subtract(new: bytes, old: bytes, width: int) -> bytes:
    """`new` - `old` in integers of `width` bytes (1, 2, 4, 8; little-endian, wrapping): zigzag, in planes of bytes."""
    unsigned, signed = np.dtype(f"<u{width}"), np.dtype(f"<i{width}")
    difference = (np.frombuffer(new, unsigned) - np.frombuffer(old, unsigned)).view(signed)
    zigzag = (difference << 1) ^ (difference >> (8 * width - 1))
    planes = np.ascontiguousarray(zigzag).view(np.uint8).reshape(-1, width).T
    return planes.tobytes()
