"""A sealed payload's files: decrypted into anonymous memory when its engine asks for them, never onto the disk."""

from __future__ import annotations

import os

from edgec_runtime.errors import TrustError
from edgec_runtime.payload import Payload
from edgec_runtime.sealed import chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from edgec_runtime.bundle.reader import Bundle
    from edgec_runtime.slots.active import Slot


def stored(entry: Mapping[str, Any], slot: Slot) -> SealedPayload:
    """A payload of an installed app: its members from the store, the key from this device. Raises TrustError."""
    from edgec_runtime.sealed import wrapped

    def raw(member: str) -> memoryview:
        import mmap

        with open(slot.path(member), "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    encryption = slot.manifest["encryption"]
    return SealedPayload(entry, encryption, wrapped.content_key(slot.root, encryption["key"]), raw)


def bundled(entry: Mapping[str, Any], bundle: Bundle) -> SealedPayload:
    """A payload inside an open bundle, opened with the key that this device was given. Raises TrustError."""
    from edgec_runtime import root
    from edgec_runtime.sealed import wrapped

    encryption = bundle.manifest["encryption"]
    return SealedPayload(entry, encryption, wrapped.content_key(root.find(), encryption["key"]), bundle.member)


class SealedPayload(Payload):
    """A payload some or all of whose files are sealed.

    Args:
        entry: the manifest's.
        encryption: the manifest's `encryption`: {"members": {name: {"sha256", "size"} of the plaintext}, "key", …}.
        content_key: the one that it names.
        raw: gives a member's bytes as they are stored (mapped).
    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        encryption: Mapping[str, Any],
        content_key: bytes,
        raw: Callable[[str], bytes | memoryview],
    ) -> None:
        super().__init__(entry)
        self._members, self._key, self._raw = encryption["members"], content_key, raw
        self._files: dict[str, int] = {}

    def path(self, role: str) -> str | None:
        """A path of an anonymous file with the plaintext. Raises TrustError (E533) where it does not decrypt."""
        if not hasattr(os, "memfd_create"):
            return None
        if role not in self._files:
            file = os.memfd_create("edgec", os.MFD_CLOEXEC)
            try:
                for chunk in self._plain(role):
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[os.write(file, rest) :]
            except BaseException:
                os.close(file)
                raise
            self._files[role] = file
        return f"/proc/self/fd/{self._files[role]}"

    def buffer(self, role: str) -> bytes | memoryview:
        """The plaintext: that file, mapped; where there are no anonymous files, a copy."""
        if self.path(role) is None:
            return b"".join(self._plain(role))
        import mmap

        file = self._files[role]
        if os.fstat(file).st_size == 0:
            return b""
        return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Close the anonymous files; a map of one stays valid."""
        while self._files:
            os.close(self._files.popitem()[1])

    def _plain(self, role: str) -> Iterator[bytes]:
        """The plaintext in chunks, and after the last one an error if all of them are not what was signed."""
        from hashlib import sha256

        name = self.roles[role]
        raw = memoryview(self._raw(name))
        plain = self._members.get(name)
        if plain is None:
            yield from (bytes(raw[at : at + chunks.CHUNK]) for at in range(0, len(raw), chunks.CHUNK))
            return
        hashed = sha256()
        for chunk in chunks.decrypt(chunks.member_key(self._key, plain["sha256"]), raw, plain["size"]):
            hashed.update(chunk)
            yield chunk
        if hashed.hexdigest() != plain["sha256"]:
            raise TrustError(
                f"the plaintext of {name!r} is not the one that was signed",
                "it decrypts, but to other bytes",
                "compile the bundle again",
                code="E533",
            )
