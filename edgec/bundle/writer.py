"""Writing a bundle: members hashed and laid out, the manifest signed, the file there whole or not at all.

Every byte follows from the manifest, the members and the signatures (`edgec_runtime.bundle.layout`). A bundle is
written beside its destination, flushed to disk, read back with the very reader that will load it on the device, and
only then renamed. Members are streamed: memory does not grow with their size, which may pass 4 GiB.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from edgec.bundle import atomic, envelope
from edgec.bundle.keys import Signer
from edgec.errors import BadInputError
from edgec_runtime.bundle import layout

CHUNK = 1 << 20

Source = bytes | memoryview | Path


class Written(NamedTuple):
    """What `write` and `sign` made: the identity (hex) and the manifest with its members."""

    identity: str
    manifest: dict[str, Any]


@dataclass(frozen=True)
class _Member:
    """A member to write, measured: SHA-256 in hex and CRC-32 of `source`'s `size` bytes."""

    name: str
    source: Source
    size: int
    sha256: str
    crc: int


def write(
    path: str | os.PathLike[str], manifest: Mapping[str, Any], files: Mapping[str, Source], signers: Sequence[Signer]
) -> Written:
    """Write a bundle of `files` (member name -> bytes or path) and return its identity and its whole manifest.

    `manifest` lacks "members", which this fills in (sorted by name). Without signers the bundle is unsigned. Raises
    BadInputError where the manifest is not what format 1 says, names another set of files or an unsafe name, where
    a file changes while it is read, and where the disk is full; nothing is left behind then.
    """
    measured = [_measure(name, files[name]) for name in sorted(files)]
    members = layout.place([(m.name, m.size) for m in measured])
    whole = {
        **manifest,
        "members": [
            {"name": m.name, "sha256": m.sha256, "size": m.size, "offset": at.offset}
            for m, at in zip(measured, members, strict=True)
        ],
    }
    data = envelope.manifest_bytes(whole)
    return _emit(Path(path), data, envelope.make(data, signers), measured, signers)


def sign(path: str | os.PathLike[str], *signers: Signer) -> Written:
    """Add signatures to a bundle in place; its identity stays, and signing twice with a key changes nothing.

    Every byte is checked first; whose signatures it has does not matter, since signing is the act of trusting.
    Raises TrustError for a damaged bundle, BadInputError where the disk is full (the old file stays).
    """
    from edgec_runtime.bundle import reader

    with reader.open(path, allow_unsigned=True) as bundle:
        bundle.verify_all()
        signed = envelope.add(bundle.envelope, signers)
        if signed == bundle.envelope:
            return Written(bundle.identity, bundle.manifest)
        measured = [_measure(m["name"], bundle.member(m["name"])) for m in bundle.manifest["members"]]
        return _emit(Path(path), envelope.payload(signed), signed, measured, signers)


def _emit(path: Path, data: bytes, signed: bytes, measured: Sequence[_Member], signers: Sequence[Signer]) -> Written:
    """Write the file that holds `data` (the manifest) signed as `signed`, and the members."""
    from edgec_runtime.bundle import manifest

    content = manifest.parse(data)
    members = [layout.Member(m["name"], m["size"], m["offset"]) for m in content["members"]]
    pieces = layout.skeleton(len(signed), members, [zlib.crc32(signed), *(m.crc for m in measured)])
    identity = envelope.identity(data)
    with atomic.replacing(path) as (file, temporary):
        # A piece begins where the data before it ends: its padding reaches up to the data that follows it.
        file.write(pieces[0].data + signed)
        for member, header in zip(measured, pieces[1:-1], strict=True):
            file.write(header.data)
            _copy(file, member)
        file.write(pieces[-1].data)
        atomic.flush(file)
        _read_back(temporary, identity, signers)
    return Written(identity, content)


def _read_back(path: Path, identity: str, signers: Sequence[Signer]) -> None:
    """What was written is what the device will accept, before anyone sees it."""
    from edgec_runtime.bundle import reader

    keys = {s.public_key.keyid: bytes.fromhex(s.public_key.keyval["public"]) for s in signers}
    with reader.open(path, trust=keys, allow_unsigned=not keys) as bundle:
        bundle.verify_all()
        if bundle.identity != identity or set(bundle.signers) != set(keys):
            raise BadInputError(
                "The bundle on disk is not the one that was written",
                f"It reads back as {bundle.identity} signed by {len(bundle.signers)}, not {identity} by {len(keys)}.",
                "Check the disk: it returns other bytes than it was given.",
                code="E914",
            )


def _chunks(source: Source) -> Iterator[bytes | memoryview]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk
    else:
        view = memoryview(source)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]


def _measure(name: str, source: Source) -> _Member:
    digest, crc, size = hashlib.sha256(), 0, 0
    try:
        for chunk in _chunks(source):
            digest.update(chunk)
            crc = zlib.crc32(chunk, crc)
            size += len(chunk)
    except OSError as e:
        raise BadInputError(f"{name} can't be read for the bundle", e.strerror or str(e), code="E915") from e
    return _Member(name, source, size, digest.hexdigest(), crc)


def _copy(file: BinaryIO, member: _Member) -> None:
    crc, size = 0, 0
    for chunk in _chunks(member.source):
        file.write(chunk)
        crc = zlib.crc32(chunk, crc)
        size += len(chunk)
    if (crc, size) != (member.crc, member.size):
        raise BadInputError(
            f"{member.name} changed while the bundle was written",
            "Another program writes to it.",
            "Run again when it is at rest.",
            code="E915",
        )
