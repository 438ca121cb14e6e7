"""The terms of an addition, as `edgec_runtime.delta.added` takes them back."""

from __future__ import annotations

import numpy as np

from edgec_runtime.delta import ESCAPE


def subtract(new: bytes, old: bytes, width: int) -> bytes:
    """`new` - `old` in integers of `width` bytes (1, 2, 4, 8; little-endian, wrapping): zigzag, in planes of bytes."""
    unsigned, signed = np.dtype(f"<u{width}"), np.dtype(f"<i{width}")
    difference = (np.frombuffer(new, unsigned) - np.frombuffer(old, unsigned)).view(signed)
    zigzag = (difference << 1) ^ (difference >> (8 * width - 1))
    planes = np.ascontiguousarray(zigzag).view(np.uint8).reshape(-1, width).T
    return planes.tobytes()


def halved(terms: bytes) -> bytes:
    """Terms two in a byte, the first one low; those of 15 and more behind the others, in a byte each."""
    values = np.frombuffer(terms + bytes(len(terms) % 2), np.uint8)
    small = np.minimum(values, ESCAPE)
    packed: bytes = (small[0::2] | small[1::2] << 4).tobytes()
    return packed + values[values >= ESCAPE].tobytes()
