"""Whoever computes AES-256-GCM and X25519 on this machine: the system's libcrypto, else the package `cryptography`."""

from __future__ import annotations

from edgec_runtime.errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Gcm(Protocol):
        """AES-256-GCM with one key; the tag is the last 16 bytes of the ciphertext."""

        def encrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
            """The ciphertext and its tag."""

        def decrypt(self, nonce: bytes, data: bytes, aad: bytes) -> bytes:
            """The plaintext. Raises ValueError where the tag is wrong."""

    class Crypto(Protocol):
        """What this package needs of a library."""

        name: str

        def gcm(self, key: bytes) -> Gcm:
            """AES-256-GCM with a key of 32 bytes."""

        def public(self, private: bytes) -> bytes:
            """The X25519 public key of a private one, 32 bytes each."""

        def exchange(self, private: bytes, public: bytes) -> bytes:
            """X25519. Raises ValueError where the result would be zero."""


_found: list[Crypto] = []


def find() -> Crypto:
    """The library to use. Raises UnsupportedError (E960) where there is none."""
    if not _found:
        _found.append(_first())
    return _found[0]


def _first() -> Crypto:
    try:
        from edgec_runtime.sealed.libcrypto import Libcrypto

        return Libcrypto()
    except (ImportError, OSError) as error:
        why = str(error)
    try:
        from edgec_runtime.sealed.package import Package

        return Package()
    except ImportError as error:
        raise UnsupportedError(
            "nothing on this machine can decrypt",
            f"neither OpenSSL's libcrypto ({why}) nor the package cryptography ({error}) is there",
            "install OpenSSL 1.1.1 or 3 (Debian: apt install libssl3), or pip install cryptography",
            code="E960",
        ) from None
