"""Reading a `.edge` file that may be hostile: who signed it is known before anything in it is believed.

The order: the envelope at its fixed place → signatures → manifest → every byte of the file that is not member data,
compared with `layout.skeleton` → member data, hashed when first asked for. Memory stays bounded whatever the file
says: the envelope is at most 1.6 MB, the file is mapped, members are slices of the map.

The map shows the file as it is at each moment. Who can write to the file while it is open can change a member after
it was hashed; `read` hashes the copy that it returns, so engines that take bytes are safe from that.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import zlib
from types import TracebackType
from typing import Any

from edgec_runtime.bundle import dsse, layout, manifest
from edgec_runtime.errors import BadInputError, Error, TrustError
from edgec_runtime.trust import store

AGAIN = "get the file again from where it was made, and don't use this one"
_START = layout.LOCAL.size + len(layout.MANIFEST)
_Open = open
CHUNK = 1 << 20  # bytes


class Bundle:
    """An open bundle whose envelope, manifest and layout are checked. Close it, or use it in a `with` block.

    Attributes:
        path: the file's path.
        manifest: the manifest as a dict (ARCHITECTURE.md, "Bundle format 1").
        identity: SHA-256 (hex) of the manifest's bytes.
        signers: ids of the trusted keys that signed it, in the envelope's order; none where they are too few.
        trusted: whether there are any. False only with `allow_unsigned`: then no native code may be loaded.
        envelope: the signed envelope, as it stands in the file.
    """

    def __init__(
        self,
        path: str,
        data: mmap.mmap,
        envelope: bytes,
        content: dict[str, Any],
        identity: str,
        signers: tuple[str, ...],
        places: dict[str, tuple[int, int, str, int]],
    ) -> None:
        self.path = path
        self.manifest = content
        self.identity = identity
        self.signers = signers
        self.trusted = bool(signers)
        self.envelope = envelope
        self._data = data
        self._view = memoryview(data)
        self._places = places  # name -> (position, size, sha256, crc)
        self._verified: set[str] = set()
        self._lock = threading.Lock()

    def member(self, name: str) -> memoryview:
        """The bytes of a member, read-only, hashed at the first call for it. Valid until `close`.

        Raises TrustError where they are not what the manifest says, KeyError for an unknown name.
        """
        position, size, digest, crc = self._places[name]
        view = self._view[position : position + size]
        with self._lock:
            if name not in self._verified:
                _check_data(name, view, digest, crc)
                self._verified.add(name)
        return view

    def read(self, name: str) -> bytes:
        """A copy of a member, itself hashed: what is returned is what was signed, whoever writes to the file."""
        position, size, digest, crc = self._places[name]
        data = bytes(self._view[position : position + size])
        _check_data(name, data, digest, crc)
        return data

    def copy(self, name: str, file: int) -> None:
        """Write a member to a file descriptor, hashing what is written. Raises TrustError where it is not as signed.

        Only a piece of it is in memory at a time. What was written before an error must not be used.
        """
        from hashlib import sha256

        position, size, digest, crc = self._places[name]
        hashed, checked = sha256(), 0
        for start in range(position, position + size, CHUNK):
            chunk = bytes(self._view[start : min(start + CHUNK, position + size)])
            hashed.update(chunk)
            checked = zlib.crc32(chunk, checked)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(file, rest) :]
        if hashed.hexdigest() != digest or checked != crc:
            raise _not_as_signed(name)

    def verify_all(self) -> None:
        """Hash every member. Raises TrustError naming the first that is not what the manifest says."""
        for name in self._places:
            self.member(name).release()

    def close(self) -> None:
        """Unmap the file. Where member views are still in use the map goes with the last of them."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._data.close()

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Bundle {self.path!r} {self.identity[:12]} {'trusted' if self.trusted else 'untrusted'}>"


def open(path: str | os.PathLike[str], *, trust: store.Trust = None, allow_unsigned: bool = False) -> Bundle:
    """Open a bundle and check who signed it, its manifest and its layout. Members are hashed when asked for.

    Args:
        path: the `.edge` file.
        trust: the keys to trust, as `trust.store.load_trusted` takes them; None for this device's own.
        allow_unsigned: accept a bundle that nobody trusted has signed, as untrusted. A wrong signature by a trusted
            key, and any damage, is refused all the same.

    Raises:
        BadInputError: no file, not a bundle, an unknown format version, or a signed manifest that breaks the rules.
        TrustError: unsigned, signed by strangers only or by fewer keys than this device asks for, damaged or tampered
            with.
    """
    name = os.fspath(path)
    try:
        with _Open(name, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < layout.ALIGN:
                raise _not_a_bundle(name)
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"can't read {name}", str(error), "check the path and its permissions", code="E901"
        ) from None
    try:
        return _checked(name, data, trust, allow_unsigned)
    except BaseException:
        data.close()
        raise


def _checked(name: str, data: mmap.mmap, trust: store.Trust, allow_unsigned: bool) -> Bundle:
    from hashlib import sha256

    envelope = _envelope(name, data)
    parsed = dsse.parse_envelope(envelope)
    keys = store.load_trusted(trust)
    signers = dsse.verify(parsed, keys)
    if not signers and not allow_unsigned:
        raise _nobody(name, parsed, keys)
    content = manifest.parse(parsed.payload)
    places = _places(name, data, envelope, content)
    return Bundle(name, data, envelope, content, sha256(parsed.payload).hexdigest(), signers, places)


def _envelope(name: str, data: mmap.mmap) -> bytes:
    """The envelope's bytes, found through the first local header; what else that header says is compared later."""
    head = data[: layout.ALIGN]
    if head[:4] != b"PK\3\4" or head[layout.LOCAL.size : _START] != layout.MANIFEST.encode():
        raise _not_a_bundle(name)
    fields = layout.LOCAL.unpack_from(head)
    crc, size = fields[6], fields[8]
    if size > layout.MAX_ENVELOPE or layout.ALIGN + size > len(data):
        raise _damaged(name, "its signed manifest does not fit in the file: it is cut short, or its header is damaged")
    envelope = data[layout.ALIGN : layout.ALIGN + size]
    if zlib.crc32(envelope) != crc:
        raise _damaged(name, "the signed manifest's checksum is wrong")
    return envelope


def _places(
    name: str, data: mmap.mmap, envelope: bytes, content: dict[str, Any]
) -> dict[str, tuple[int, int, str, int]]:
    """Where each member is, once all bytes between the members are exactly those that the manifest calls for."""
    entries = content["members"]
    members = [layout.Member(entry["name"], entry["size"], entry["offset"]) for entry in entries]
    start = layout.base(len(envelope))
    end = layout.ALIGN + len(envelope)  # where the next local header stands
    crcs = [zlib.crc32(envelope)]
    places = {}
    for entry in entries:
        position, size = start + entry["offset"], entry["size"]
        if position + size > len(data) or end + layout.LOCAL.size > len(data):
            raise _damaged(name, f"{entry['name']!r} does not fit in the file: it is cut short")
        crc = layout.LOCAL.unpack_from(data, end)[6]
        crcs.append(crc)
        places[entry["name"]] = (position, size, entry["sha256"], crc)
        end = position + size
    try:
        pieces = layout.skeleton(len(envelope), members, crcs)
    except ValueError as error:
        raise _damaged(name, str(error)) from None
    for piece in pieces:
        if data[piece.position : piece.position + len(piece.data)] != piece.data:
            raise _damaged(name, f"the ZIP structure at byte {piece.position} is not what the manifest calls for")
    last = pieces[-1]
    if len(data) != last.position + len(last.data):
        raise _damaged(name, f"{len(data) - last.position - len(last.data)} bytes follow the end of the archive")
    return places


def _check_data(name: str, data: memoryview | bytes, digest: str, crc: int) -> None:
    from hashlib import sha256

    if sha256(data).hexdigest() != digest or zlib.crc32(data) != crc:
        raise _not_as_signed(name)


def _not_as_signed(name: str) -> Error:
    return TrustError(
        f"the member {name!r} is not what the manifest says",
        "its SHA-256 or its checksum differs: it was changed after signing, or damaged",
        AGAIN,
        code="E504",
    )


def _not_a_bundle(name: str) -> Error:
    return BadInputError(
        f"{name} is not an edgec bundle",
        "it does not begin with a signed manifest",
        "pass a .edge file that `edgec compile` wrote",
        code="E901",
    )


def _damaged(name: str, why: str) -> Error:
    return TrustError(f"{name} is damaged or was tampered with", why, AGAIN, code="E504")


def _nobody(name: str, envelope: dsse.Envelope, trusted: store.Trusted) -> Error:
    some = dsse.signed_by(envelope, trusted)
    if some:
        return TrustError(
            f"{name} is signed by {len(some)} of the {trusted.threshold} keys that must sign it",
            f"this device's root metadata (version {trusted.version}) asks for {trusted.threshold} of its "
            f"{len(trusted)} release keys; {', '.join(key[:16] for key in some)} signed",
            "let another holder of a release key sign it: `edgec sign FILE --sign KEY`",
            code="E514",
        )
    if not envelope.signatures:
        return TrustError(
            f"{name} is not signed",
            "anybody could have made it",
            "sign it with `edgec sign`, or pass --allow-unsigned (allow_unsigned=True) if you made it yourself",
            code="E501",
        )
    keys = ", ".join(signature.keyid[:16] for signature in envelope.signatures[:3])
    return TrustError(
        f"{name} is signed by a stranger",
        f"its keys ({keys}) are not among those that this machine trusts",
        f"sign it with release keys of this device's root metadata (version {trusted.version}): `edgec sign`"
        if trusted.version
        else "if you know that key, trust it: `edgec keys trust`, or copy its PEM file into the root's trust folder",
        code="E502",
    )
