"""Sealing a bundle: its payloads' files encrypted, before it is signed; its content key wrapped for devices.

The format is `edgec_runtime.sealed`'s. A library so far: no command calls it (docs/flash_encryption.md).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec.bundle import writer
from edgec.bundle.keys import Signer
from edgec.errors import BadInputError
from edgec_runtime.bundle import reader
from edgec_runtime.bundle.manifest import SEALED
from edgec_runtime.sealed import chunks, wrapped

SUFFIX = ".keys"  # of a bundle's file of wrapped keys, after the bundle's own name


@dataclass(frozen=True)
class Sealed:
    """A sealed bundle: its identity (hex), its content key (32 bytes, secret), and that key's id (hex)."""

    identity: str
    content_key: bytes
    key_id: str

    def __repr__(self) -> str:
        return f"Sealed(identity={self.identity!r}, key_id={self.key_id!r})"


def seal(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    signers: Sequence[Signer],
    *,
    content_key: bytes | None = None,
) -> Sealed:
    """Write `source` again with its payloads' files encrypted. Golden inputs and answers, recipe, reports stay plain.

    Args:
        source: a bundle. Every byte is checked; whose signatures it has does not matter, as for `writer.sign`.
        destination: the sealed bundle; the same content key and source give the same bytes.
        signers: who signs it.
        content_key: 32 bytes; new random ones where None. Keep it: who has it can wrap it for further devices.

    Raises BadInputError where the source is sealed already (E962) or the disk is full, TrustError where it is damaged.
    """
    key = os.urandom(32) if content_key is None else content_key
    if len(key) != 32:
        raise ValueError("a content key has 32 bytes")
    with reader.open(source, allow_unsigned=True) as bundle:
        if "encryption" in bundle.manifest:
            raise BadInputError(
                f"{Path(source).name} is sealed already",
                f"Its content key is {bundle.manifest['encryption']['key'][:16]}….",
                "Wrap that key for further devices, or seal the bundle that it was made of.",
                code="E962",
            )
        bundle.verify_all()
        kept = {name for p in bundle.manifest["payloads"] if p["golden"] for name in [p["golden"]["file"]]}
        names = {name for payload in bundle.manifest["payloads"] for name in payload["files"].values()} - kept
        with tempfile.TemporaryDirectory(dir=Path(destination).parent, prefix=".sealing-") as folder:
            files: dict[str, writer.Source] = {}
            plain = {}
            for number, member in enumerate(bundle.manifest["members"]):
                name, data = member["name"], bundle.member(member["name"])
                if name in names:
                    files[name] = Path(folder) / str(number)
                    plain[name] = _encrypt(data, key, Path(folder) / str(number))
                else:
                    files[name] = data
            manifest = {name: value for name, value in bundle.manifest.items() if name != "members"}
            manifest["encryption"] = {"scheme": SEALED, "key": chunks.key_id(key), "members": plain}
            written = writer.write(destination, manifest, files, signers)
    return Sealed(written.identity, key, chunks.key_id(key))


def wrap(content_key: bytes, devices: Iterable[bytes]) -> bytes:
    """The file of wrapped keys (`MODEL.edge.keys`) for devices by their public keys, 32 bytes each.

    Raises BadInputError (E963) for what is no public key.
    """
    try:
        return wrapped.encode(wrapped.wrap(content_key, devices))
    except ValueError as e:
        raise BadInputError(
            "The content key can't be wrapped for a device",
            str(e),
            "Give what `python3 -m edgec_runtime.sealed key` prints on the device.",
            code="E963",
        ) from e


def _encrypt(data: memoryview, content_key: bytes, path: Path) -> dict[str, str | int]:
    """Write the sealed form of a member; what the manifest says of its plaintext."""
    digest, at = hashlib.sha256(data).hexdigest(), 0

    def read(size: int) -> bytes:
        nonlocal at
        at += size
        return bytes(data[at - size : at])

    with path.open("xb") as file:
        for chunk in chunks.encrypt(chunks.member_key(content_key, digest), read, len(data)):
            file.write(chunk)
    return {"sha256": digest, "size": len(data)}
