"""HKDF-SHA256 (RFC 5869)."""

from __future__ import annotations

import hmac


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract: a pseudorandom key of 32 bytes."""
    return hmac.new(salt or bytes(32), secret, "sha256").digest()


def expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand: `size` bytes, at most 8160. Raises ValueError for more."""
    if not 0 <= size <= 255 * 32:
        raise ValueError(f"HKDF-SHA256 gives at most 8160 bytes, not {size}")
    out, block = b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.new(key, block + info + bytes([number]), "sha256").digest()
        out += block
    return out[:size]


def derive(secret: bytes, info: bytes, size: int = 32) -> bytes:
    """Both, without a salt: for secrets that are random already."""
    return expand(extract(b"", secret), info, size)
