"""A bundle that comes in: what is missing is told, members arrive whole or as patches, then it goes on trial."""

from __future__ import annotations

import os

from edgec_runtime.agent import bases
from edgec_runtime.errors import BadInputError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from edgec_runtime.slots.incoming import Incoming


class Transfer:
    """At most one transfer; `close` lets go of its lock. What has arrived is kept for the next time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._incoming: Incoming | None = None

    def begin(self, envelope: bytes, app: str | None) -> dict[str, Any]:
        """All checks before a member is sent; then what is needed, and what a delta could be made against."""
        from edgec_runtime.slots import incoming

        self.close()
        made = incoming.begin(envelope, root=self._root, app=app)
        self._incoming = made.__enter__()
        return {
            "app": made.name,
            "identity": made.identity,
            "version": made.manifest["app"]["version"],
            "unchanged": made.unchanged,
            "members": [list(member) for member in made.members],
            "held": [list(each) for each in bases.held(self._root, made.name)],
        }

    def data(self, digest: str, offset: int, size: int, pieces: Iterator[bytes]) -> dict[str, Any]:
        """Append to a member; finish it where that was the last byte."""
        member, open_ = self._member(digest), self._open()
        if offset + size > member.size:
            raise BadInputError(
                f"{member.name} has {member.size} bytes", f"{size} more after {offset} were announced", "", code="E945"
            )
        at = offset
        for piece in pieces:
            at = open_.append(digest, at, piece)
        if at == member.size:
            open_.finish(digest)
        return {"next": at, "done": at == member.size}

    def patch(self, digest: str, base: str, size: int, pieces: Iterator[bytes]) -> dict[str, Any]:
        """Make a member of one that is in the store. A patch that was cut short is of no use and is forgotten."""
        from tempfile import TemporaryFile

        member, open_ = self._member(digest), self._open()
        if size > member.size:
            raise BadInputError("a patch is longer than what it makes", member.name, "send it whole", code="E947")
        with TemporaryFile(dir=os.path.join(self._root, "stage")) as file:
            for piece in pieces:
                file.write(piece)
            if file.tell() != size:
                return {"next": 0, "done": False}
            file.seek(0)
            open_.patch(digest, base, file)
        open_.finish(digest)
        return {"next": member.size, "done": True}

    def commit(self, confirm: str, deadline: float, tries: int) -> dict[str, Any]:
        """Slot and state; when this returns it survives a power cut."""
        open_ = self._open()
        open_.commit(confirm=confirm, deadline=deadline, tries=tries)
        name = open_.name
        self.close()
        return {"app": name}

    def close(self) -> None:
        """End the transfer that is under way, if there is one."""
        made, self._incoming = self._incoming, None
        if made is not None:
            made.__exit__(None, None, None)

    def _open(self) -> Incoming:
        if self._incoming is None:
            raise UsageError("no transfer is under way", "it was committed, or never begun", "begin first", code="E948")
        return self._incoming

    def _member(self, digest: str) -> Any:
        member = next((each for each in self._open().members if each.sha256 == digest), None)
        if member is None:
            raise BadInputError(
                "the bundle has no such member for this device", digest[:16], "send what begin asked for", code="E949"
            )
        return member
