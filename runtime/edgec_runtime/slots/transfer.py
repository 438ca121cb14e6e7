"""The members of an installation that are on their way: what the store lacks of them, piece by piece into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import IO

from edgec_runtime.errors import BadInputError, TrustError
from edgec_runtime.slots import locks, store
from edgec_runtime.slots import part as part_
from edgec_runtime.slots.active import store_path


class Transfer:
    """What is sent of the members `sizes` (digest -> bytes). Its caller holds `stage/lock`.

    Attributes:
        sizes: of each content that is needed, in bytes.
        written: bytes that went into the store.
    """

    def __init__(self, where: str, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes
        self.written = 0
        self._where, self._stage = where, os.path.join(where, "stage")
        self._parts: dict[str, part_.Part] = {}
        self._stored = {digest for digest, size in sizes.items() if store.holds(where, digest, size)}

    def have(self, sha256: str) -> int:
        """Bytes of a member that are here."""
        return self.sizes[sha256] if sha256 in self._stored else part_.length(self._stage, sha256)

    def missing(self) -> int:
        """Bytes that are to come."""
        return sum(max(0, size - self.have(digest)) for digest, size in self.sizes.items())

    def take_up(self) -> None:
        """Put into the store what an earlier transfer sent whole; take away what it sent damaged. Raises OSError."""
        for digest, size in self.sizes.items():
            if digest not in self._stored and part_.length(self._stage, digest) >= size:
                self._complete(digest)

    def append(self, sha256: str, offset: int, data: bytes) -> int:
        """Write the next bytes of a member. Returns the next offset.

        Raises BadInputError: no such member (E941), another offset than what is there (E942), longer than the member
        (E943), no room (E906).
        """
        size = self._size(sha256)
        part = self._part(sha256)
        have = size if part is None else part.have
        if offset != have:
            raise BadInputError(
                f"the member {sha256[:12]} was sent from byte {offset}",
                f"{have} bytes of it are here",
                "go on from there",
                code="E942",
            )
        if have + len(data) > size:
            raise BadInputError(
                f"the member {sha256[:12]} is longer than the manifest says",
                f"it has {size} bytes",
                "send the bundle that was signed",
                code="E943",
            )
        if part is None or not data:
            return have
        with locks.writing(self._where):
            part.append(data)
        return part.have

    def patch(self, sha256: str, base: str, patch: IO[bytes]) -> None:
        """Make a member from one in the store and a patch (`edgec_runtime.delta`), which is seekable.

        Raises BadInputError (E940) where the base is not there or the patch does not make the member: send it in full.
        """
        from edgec_runtime import delta

        size = self._size(sha256)
        part = self._part(sha256)
        if part is None:
            return
        path = store_path(self._where, base)
        try:
            if not store.is_digest(base) or not os.path.isfile(path):
                raise delta.PatchError("its base is not in the store")
            with locks.writing(self._where):
                part.clear()
                with open(path, "rb") as old:
                    delta.apply(patch, old, part.append, size=size)
                if part.have != size or part.digest() != sha256:
                    raise delta.PatchError("what it makes is not the member")
        except BaseException as error:
            with contextlib.suppress(OSError):  # a disk that went read-only: what stays is found out by its hash
                self._parts.pop(sha256).remove()
            if not isinstance(error, delta.PatchError):
                raise
            raise BadInputError(
                f"the patch for the member {sha256[:12]} is of no use", str(error), "send it in full", code="E940"
            ) from None

    def finish(self, sha256: str) -> None:
        """Check a member that is complete, flush it, and put it into the store.

        Raises TrustError (E508) where it is not what the manifest says: its part is removed. BadInputError (E942)
        where bytes are missing.
        """
        if sha256 in self._stored:
            return
        size = self._size(sha256)
        part = self._part(sha256)
        if part is not None and part.have < size:
            raise BadInputError(
                f"the member {sha256[:12]} is not complete",
                f"{part.have} of its {size} bytes are here",
                "send the rest",
                code="E942",
            )
        with locks.writing(self._where):
            self._complete(sha256)
        if sha256 not in self._stored:
            raise TrustError(
                f"the member {sha256[:12]} is not what the manifest says",
                "its SHA-256 differs: it was damaged on its way, or sent from another file",
                "send it again",
                code="E508",
            )

    def close(self) -> None:
        """Close the parts; they stay where they are."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()

    def _size(self, sha256: str) -> int:
        try:
            return int(self.sizes[sha256])
        except KeyError:
            raise BadInputError(
                f"{sha256[:64]!r} is not a member that this machine needs",
                "the manifest names others",
                "send those that `begin` asked for",
                code="E941",
            ) from None

    def _part(self, sha256: str) -> part_.Part | None:
        """The open part of a member; None where the store has it."""
        if sha256 in self._stored:
            return None
        part = self._parts.get(sha256)
        if part is None:
            with locks.writing(self._where):
                part = self._parts[sha256] = part_.Part(self._stage, sha256, self.sizes[sha256])
        return part

    def _complete(self, sha256: str) -> None:
        """Move a member whose bytes are all here into the store, if they are right; else take its part away."""
        part = self._part(sha256)
        if part is None:
            return
        if part.have == self.sizes[sha256] and part.digest() == sha256:
            part.place(store_path(self._where, sha256))
            self._stored.add(sha256)
            self.written += part.have
        else:
            part.remove()
        del self._parts[sha256]
