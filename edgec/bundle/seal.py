"""Sealing a bundle: its payloads' files encrypted, before it is signed; its content key wrapped for devices.

The format is `edgec_runtime.sealed`'s (docs/flash_encryption.md). Content keys are kept in `$EDGEC_CONFIG/sealed`, else
in the user's configuration folder, as `<id>.key`: 64 hex digits, readable by their owner alone.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec.bundle import atomic, keys, writer
from edgec.bundle.keys import Signer
from edgec.errors import BadInputError, Error, UnsupportedError
from edgec_runtime.bundle import reader
from edgec_runtime.bundle.manifest import SEALED
from edgec_runtime.sealed import chunks, wrapped

SUFFIX = ".keys"  # of a bundle's file of wrapped keys, after the bundle's own name


@dataclass(frozen=True)
class Sealed:
    """A sealed bundle: its identity, and the id of its content key, both in hex."""

    identity: str
    key_id: str


def new_key() -> bytes:
    """A new content key: 32 random bytes."""
    return os.urandom(32)


def seal(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    signers: Sequence[Signer],
    *,
    content_key: bytes,
) -> Sealed:
    """Write `source` again with its payloads' files encrypted. Golden inputs and answers, recipe, reports stay plain.

    Args:
        source: a bundle. Every byte is checked; whose signatures it has does not matter, as for `writer.sign`.
        destination: the sealed bundle; the same content key and source give the same bytes.
        signers: who signs it.
        content_key: 32 bytes (`new_key`), kept (`keep`): who has it can wrap it for further devices.

    Raises BadInputError where the source is sealed already (E962) or the disk is full, TrustError where it is damaged.
    """
    key = content_key
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
    return Sealed(written.identity, chunks.key_id(key))


def keep(content_key: bytes) -> Path:
    """Keep a content key on this machine, durably: its file. Raises BadInputError (E964) where it can't be written."""
    path = _path(chunks.key_id(content_key))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            with atomic.replacing(path) as (file, _):
                os.fchmod(file.fileno(), 0o600)
                file.write(content_key.hex().encode() + b"\n")
                atomic.flush(file)
    except OSError as e:
        raise BadInputError(f"The content key can't be kept in {path.parent}", e.strerror or str(e), code="E964") from e
    return path


def kept(key_id: str) -> bytes | None:
    """The content key with this id, None where this machine does not have it. Raises BadInputError (E964): damaged."""
    path = _path(key_id)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii"))
        if chunks.key_id(key) != key_id:
            raise ValueError("it is another key than its name says")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise BadInputError(f"The content key {path} can't be read", str(e), code="E964") from e
    return key


def keep_here(content_key: bytes) -> str:
    """Let this machine's own runtime open what is sealed with the key, as a device would: "", or why it can't."""
    from edgec_runtime import root
    from edgec_runtime.sealed import device_key

    try:
        where = root.find()
        wrapped.add(where, wrapped.wrap(content_key, [device_key.create(where)]))
    except Error as e:
        return f"{e.what}: {e.why}" if e.why else e.what
    except OSError as e:
        return str(e)
    return ""


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two manifests are of the same bundle, sealed or not: the same plaintext, and the same of all the rest."""
    return _plaintext(one) == _plaintext(other)


def refuse(manifest: Mapping[str, Any], what: str) -> None:
    """Raise UnsupportedError (E966) for a bundle that is encrypted; `what` can't be done with it."""
    if "encryption" in manifest:
        raise UnsupportedError(
            f"An encrypted bundle can't be {what}",
            f"{manifest['app']['name']}'s models are readable for devices that have its key, nobody else.",
            "Take the bundle that it was made of, before 'edgec sign --encrypt'.",
            code="E966",
        )


def _plaintext(manifest: Mapping[str, Any]) -> dict[str, Any]:
    plain = manifest.get("encryption", {}).get("members", {})
    members = {
        m["name"]: (plain.get(m["name"], m)["sha256"], plain.get(m["name"], m)["size"]) for m in manifest["members"]
    }
    return {**{k: v for k, v in manifest.items() if k not in ("members", "encryption")}, "members": members}


def _path(key_id: str) -> Path:
    return keys.folder().parent / "sealed" / f"{key_id}.key"


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
