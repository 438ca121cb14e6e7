"""A board's host key, made here: so it is known before the board first answers, and no first connection has to trust.

Dropbear's own format of an Ed25519 key (dropbear, signkey.c and ed25519.c): the type's name and the 32 private and 32
public bytes, each as an SSH string (RFC 4251 §5).
"""

from __future__ import annotations

import struct

TYPE = b"ssh-ed25519"


def dropbear(private: bytes, public: bytes) -> bytes:
    """A host key file for Dropbear, from the two raw halves (RFC 8032). Raises ValueError where they are none."""
    if len(private) != 32 or len(public) != 32:
        raise ValueError("an Ed25519 key has 32 private and 32 public bytes")
    return _string(TYPE) + _string(private + public)


def generate() -> tuple[bytes, str]:
    """A new host key: Dropbear's file, and the public line for known_hosts ("ssh-ed25519 AAAA…")."""
    from base64 import b64encode

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    line = f"{TYPE.decode()} {b64encode(_string(TYPE) + _string(public)).decode()}"
    return dropbear(key.private_bytes_raw(), public), line


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
