"""The public keys that this device trusts for bundles: its root metadata's release keys, else PEM files.

Where the root's `trust/` folder holds root metadata (`root.dsse`), its release role alone counts, with its threshold.
Else each PEM file in that folder, named by its key's id, is trusted alone: that is how development works.

A key id is the SHA-256 (hex) of the 32 raw bytes of an Ed25519 public key. A key file is a PEM SubjectPublicKeyInfo
(RFC 8410), as `openssl pkey -pubout` writes it.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Iterable, Mapping
from typing import Union

from edgec_runtime import root as root_
from edgec_runtime.errors import BadInputError, TrustError
from edgec_runtime.trust import ed25519

SPKI_PREFIX = bytes.fromhex(
    "302a300506032b6570032100"
)  # SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING (32 bytes) }
MAX_PEM = 4096  # bytes; an Ed25519 key takes 113
MAX_KEYS = 256
MAX_ROOT = 65536  # bytes of root metadata; 32 keys and as many signatures take under 20,000
BEGIN, END = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"


class Trusted(dict[str, bytes]):
    """Trusted keys, {key id: 32 raw bytes}, and what they must do together.

    Attributes:
        threshold: how many distinct ones must sign.
        version: of the root metadata that names them, 0 where none does.
        signed, expires: when that metadata was signed and when it expires (`when.FORM`), None without one.
    """

    __slots__ = ("expires", "signed", "threshold", "version")

    def __init__(
        self,
        keys: Mapping[str, bytes],
        *,
        threshold: int = 1,
        version: int = 0,
        signed: str | None = None,
        expires: str | None = None,
    ) -> None:
        super().__init__(keys)
        self.threshold = threshold
        self.version = version
        self.signed = signed
        self.expires = expires


Trust = Union[str, "os.PathLike[str]", Mapping[str, bytes], Iterable[Union[str, "os.PathLike[str]", bytes]], None]


def key_id(public_key: bytes) -> str:
    """SHA-256 (hex) of the 32 raw bytes of a public key."""
    from hashlib import sha256

    return sha256(public_key).hexdigest()


def parse_pem(data: bytes, name: str = "key") -> bytes:
    """The 32 raw bytes of an Ed25519 public key in PEM. Raises BadInputError naming the file where it is not one."""
    body = data.strip()
    if len(data) <= MAX_PEM and body.startswith(BEGIN) and body.endswith(END):
        try:
            der = binascii.a2b_base64(b"".join(body[len(BEGIN) : -len(END)].split()))
        except binascii.Error:
            der = b""
        if der[: len(SPKI_PREFIX)] == SPKI_PREFIX and ed25519.valid_key(der[len(SPKI_PREFIX) :]):
            return der[len(SPKI_PREFIX) :]
    raise BadInputError(
        f"{name} is not an Ed25519 public key",
        "a trusted key is a PEM file (BEGIN PUBLIC KEY) of an Ed25519 key; private keys and other kinds are not",
        "write it with `edgec keys new NAME` or `openssl pkey -in KEY -pubout`",
        code="E904",
    )


def to_pem(public_key: bytes) -> bytes:
    """The PEM file of a public key's 32 raw bytes."""
    return BEGIN + b"\n" + binascii.b2a_base64(SPKI_PREFIX + public_key) + END + b"\n"


def load_trusted(trust: Trust = None, *, root: str | os.PathLike[str] | None = None) -> Trusted:
    """The trusted keys as {key id: 32 raw bytes}, with the number of them that must sign.

    Args:
        trust: None for the device's own `trust/` folder (an absent folder trusts nobody); a path of a PEM file or of
            a folder of them; a list of such paths, of PEM contents or of raw 32-byte keys; or a ready mapping.
        root: the device's root folder, as `root.find` takes it. Used where `trust` is None.

    Raises:
        BadInputError: a file that is not a public key, or that isn't there.
        TrustError: a file of the device's `trust/` folder whose name is not its key's id; damaged root metadata.
    """
    if trust is None:
        where = root_.find(root)
        if os.path.lexists(root_path(where)):
            from edgec_runtime.trust import metadata

            known = metadata.pinned(where)
            if known is not None:
                return known.release
        folder = os.path.join(where, "trust")
        return Trusted(_folder(folder, named=True) if os.path.isdir(folder) else {})
    if isinstance(trust, Trusted):
        return trust
    if isinstance(trust, Mapping):
        return Trusted(_checked(trust))
    items = [trust] if isinstance(trust, (str, bytes, os.PathLike)) else list(trust)
    keys: dict[str, bytes] = {}
    for item in items:
        if isinstance(item, bytes):
            raw = item if len(item) == 32 else parse_pem(item)
            keys.update(_checked({key_id(raw): raw}))
        elif os.path.isdir(item):
            keys.update(_folder(os.fspath(item), named=False))
        else:
            raw = parse_pem(_read(os.fspath(item)), os.fspath(item))
            keys[key_id(raw)] = raw
    return Trusted(keys)


def load() -> Trusted:
    """The keys that this device trusts: `load_trusted` of its own `trust/` folder."""
    return load_trusted(None)


def root_path(where: str) -> str:
    """Where a root folder keeps its root metadata."""
    return os.path.join(where, "trust", "root.dsse")


def pinned_bytes(where: str) -> bytes | None:
    """The bytes of a root folder's root metadata, None where it has none.

    Raises TrustError where it is there and can't be read: single keys must not count again because of that.
    """
    path = root_path(where)
    try:
        with open(path, "rb") as file:
            return file.read(MAX_ROOT + 1)
    except OSError as error:
        if not os.path.lexists(path) and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return None
        raise TrustError(
            f"can't read the root metadata {path}", str(error), "check its permissions, and the disk", code="E515"
        ) from None


def _checked(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    for name, raw in keys.items():
        if not ed25519.valid_key(raw) or key_id(raw) != name:
            raise BadInputError(
                f"the trusted key {name[:16]} is not usable",
                "it must be 32 bytes that encode a point of Ed25519, under its own SHA-256",
                "pass the key's PEM file",
                code="E904",
            )
    return dict(keys)


def _folder(folder: str, *, named: bool) -> dict[str, bytes]:
    keys = {}
    names = sorted(name for name in os.listdir(folder) if name.endswith(".pem"))
    for name in names[:MAX_KEYS]:
        path = os.path.join(folder, name)
        raw = parse_pem(_read(path), path)
        if named and name != key_id(raw) + ".pem":
            raise TrustError(
                f"{path} holds another key than its name says",
                "files of the trust folder are named by the key's id, so that a swapped file is seen",
                f"check where this file comes from; its key id is {key_id(raw)}",
                code="E506",
            )
        keys[key_id(raw)] = raw
    return keys


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_PEM + 1)
    except OSError as error:
        raise BadInputError(
            f"can't read the key {path}", str(error), "check the path and its permissions", code="E904"
        ) from None
