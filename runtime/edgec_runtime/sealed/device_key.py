"""The device's own X25519 key: `trust/device.key`, made on the device, whose private half never leaves it.

A PKCS #8 PEM file (RFC 8410) of mode 0600, so that `openssl pkey` reads it. Its public half is what the host wraps
content keys for; its id is the SHA-256 of those 32 bytes.
"""

from __future__ import annotations

import binascii
import os
from hashlib import sha256

from edgec_runtime.errors import TrustError
from edgec_runtime.sealed import crypto

HEADER, FOOTER = b"-----BEGIN PRIVATE KEY-----\n", b"\n-----END PRIVATE KEY-----\n"
PKCS8 = bytes.fromhex("302e020100300506032b656e04220420")  # RFC 8410, section 7: X25519, then the key's 32 bytes


def path(root: str) -> str:
    """Where the key is."""
    return os.path.join(root, "trust", "device.key")


def key_id(public: bytes) -> str:
    """The id of a device by its public key: 64 hex digits."""
    return sha256(public).hexdigest()


def private(root: str) -> bytes:
    """The private key, 32 bytes.

    Raises TrustError: there is none (E530), others may read it (E531), or it is no X25519 key (E531).
    """
    try:
        file = os.open(path(root), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise TrustError(
            "this device has no key to decrypt with",
            f"there is no {path(root)}",
            "on a device: python3 -m edgec_runtime.sealed key; elsewhere take the bundle that was not encrypted",
            code="E530",
        ) from None
    except OSError as error:
        raise _unusable(root, str(error)) from None
    try:
        if os.fstat(file).st_mode & 0o077:
            raise _unusable(root, "others than its owner may read or write it")
        return decode(os.read(file, 1024))
    except ValueError as error:
        raise _unusable(root, str(error)) from None
    finally:
        os.close(file)


def public(root: str) -> bytes | None:
    """The public key, 32 bytes; None where the device has no key yet. Raises as `private` otherwise."""
    if not os.path.lexists(path(root)):
        return None
    return crypto.find().public(private(root))


def create(root: str) -> bytes:
    """Make the device's key where there is none yet, durably; the public key. Raises UsageError, BadInputError."""
    from edgec_runtime.slots import files
    from edgec_runtime.slots.locks import locked, writing

    crypto.find()
    with writing(root), locked(root):
        if not os.path.lexists(path(root)):
            stage = os.path.join(root, "stage")
            files.make_folders(stage)
            files.make_folders(os.path.join(root, "trust"))
            files.write_atomic(path(root), encode(os.urandom(32)), stage, 0o600)
    return crypto.find().public(private(root))


def encode(key: bytes) -> bytes:
    """A private key as PEM."""
    return HEADER + binascii.b2a_base64(PKCS8 + key, newline=False) + FOOTER


def decode(data: bytes) -> bytes:
    """The private key of a PEM file that `encode` makes. Raises ValueError for any other."""
    if not data.startswith(HEADER) or not data.endswith(FOOTER):
        raise ValueError("it is not a PEM file of one private key")
    der = binascii.a2b_base64(data[len(HEADER) : -len(FOOTER)])
    if der[: len(PKCS8)] != PKCS8 or len(der) != len(PKCS8) + 32:
        raise ValueError("it is not an X25519 key")
    return der[len(PKCS8) :]


def _unusable(root: str, why: str) -> TrustError:
    return TrustError(
        "the device's key can't be used", f"{path(root)}: {why}", f"chmod 600 {path(root)}, as its owner", code="E531"
    )
