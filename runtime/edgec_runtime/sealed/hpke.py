"""HPKE (RFC 9180) in base mode, one message a key: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""

from __future__ import annotations

import os

from edgec_runtime.sealed import crypto, hkdf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgec_runtime.sealed.crypto import Crypto

KEM, KDF, AEAD = (0x0020).to_bytes(2, "big"), (0x0001).to_bytes(2, "big"), (0x0002).to_bytes(2, "big")
KEM_SUITE, SUITE = b"KEM" + KEM, b"HPKE" + KEM + KDF + AEAD
BASE = b"\0"
KEY, NONCE = 32, 12  # Nk, Nn


def seal(
    public: bytes, info: bytes, aad: bytes, data: bytes, *, ephemeral: bytes | None = None, by: Crypto | None = None
) -> tuple[bytes, bytes]:
    """SealBase: (the encapsulated key, the ciphertext), which only the owner of `public`'s private key opens.

    `ephemeral` is the sender's private key, for test vectors; a new random one otherwise. Raises ValueError for a
    public key of another size, or of small order.
    """
    by = by or crypto.find()
    private = os.urandom(32) if ephemeral is None else ephemeral
    enc = by.public(private)
    key, nonce = _schedule(_shared(by.exchange(private, _sized(public)), enc + public), info)
    return enc, by.gcm(key).encrypt(nonce, data, aad)


def open_(private: bytes, enc: bytes, info: bytes, aad: bytes, sealed: bytes, *, by: Crypto | None = None) -> bytes:
    """OpenBase: the message. Raises ValueError where it is for another key, of another context, or was changed."""
    by = by or crypto.find()
    shared = _shared(by.exchange(private, _sized(enc)), enc + by.public(private))
    key, nonce = _schedule(shared, info)
    return by.gcm(key).decrypt(nonce, sealed, aad)


def _sized(public: bytes) -> bytes:
    if len(public) != 32:
        raise ValueError(f"a public key has 32 bytes, not {len(public)}")
    return public


def _shared(exchanged: bytes, context: bytes) -> bytes:
    """ExtractAndExpand (section 4.1)."""
    if not any(exchanged):  # section 7.1.4
        raise ValueError("the public key is of small order")
    key = _extract(KEM_SUITE, b"", b"eae_prk", exchanged)
    return _expand(KEM_SUITE, key, b"shared_secret", context, 32)


def _schedule(shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """KeySchedule in base mode (section 5.1): the key and the first message's nonce."""
    context = BASE + _extract(SUITE, b"", b"psk_id_hash", b"") + _extract(SUITE, b"", b"info_hash", info)
    secret = _extract(SUITE, shared, b"secret", b"")
    return _expand(SUITE, secret, b"key", context, KEY), _expand(SUITE, secret, b"base_nonce", context, NONCE)


def _extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
    return hkdf.extract(salt, b"HPKE-v1" + suite + label + secret)


def _expand(suite: bytes, key: bytes, label: bytes, info: bytes, size: int) -> bytes:
    return hkdf.expand(key, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, size)
