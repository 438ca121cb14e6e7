"""AES-256-GCM and X25519 by the package `cryptography`, for machines without a libcrypto that can be called."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Package:
    """The package's functions. Raises ImportError where it is not there."""

    name = "cryptography"

    def __init__(self) -> None:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.asymmetric import x25519
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.wrong_tag, self._curve, self._cipher = InvalidTag, x25519, AESGCM

    def gcm(self, key: bytes) -> Gcm:
        """AES-256-GCM with a key of 32 bytes."""
        if len(key) != 32:
            raise ValueError("a key has 32 bytes")
        return Gcm(self._cipher(key), self.wrong_tag)

    def public(self, private: bytes) -> bytes:
        """The X25519 public key (32 bytes) of a private key (RFC 7748)."""
        return self._curve.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()

    def exchange(self, private: bytes, public: bytes) -> bytes:
        """X25519 of both (RFC 7748). Raises ValueError for a public key of small order."""
        key = self._curve.X25519PrivateKey.from_private_bytes(private)
        return key.exchange(self._curve.X25519PublicKey.from_public_bytes(public))


class Gcm:
    """AES-256-GCM with nonces of 12 bytes and tags of 16, after the ciphertext."""

    def __init__(self, cipher: Any, wrong_tag: type[Exception]) -> None:
        self._cipher, self._wrong_tag = cipher, wrong_tag

    def encrypt(self, nonce: bytes, data: bytes, aad: bytes = b"") -> bytes:
        """The ciphertext and its tag."""
        if len(nonce) != 12:
            raise ValueError("a nonce has 12 bytes")
        return bytes(self._cipher.encrypt(nonce, data, aad))

    def decrypt(self, nonce: bytes, data: bytes, aad: bytes = b"") -> bytes:
        """The plaintext. Raises ValueError where the tag is wrong."""
        if len(nonce) != 12:
            raise ValueError("a nonce has 12 bytes")
        try:
            return bytes(self._cipher.decrypt(nonce, data, aad))
        except self._wrong_tag:
            raise ValueError("the tag is wrong") from None
