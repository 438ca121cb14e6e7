"""What is to be sent: the bundle, opened once for all devices, and for each missing member which way is shorter."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgec.flash import members
from edgec_runtime.bundle import reader
from edgec_runtime.delta import PatchError

WORTH = 0.7  # of what is missing: a patch that is larger is not sent
LARGEST = 256 << 20  # bytes of a file that deltas are made for: both files are in memory meanwhile


@dataclass(frozen=True)
class Member:
    """A member that a device needs: its name in the bundle, SHA-256, size in bytes, and bytes that are there."""

    name: str
    sha256: str
    size: int
    have: int


@dataclass(frozen=True)
class Held:
    """A file that a device has: the name under which one of its slots has it, SHA-256, size."""

    name: str
    sha256: str
    size: int


@dataclass
class Package:
    """A verified bundle that is to be sent, and what deltas can be made against. Made by `open`.

    Patches are made once for all devices of a run that have the same base.

    Attributes:
        path: the file; manifest, identity, envelope: of it.
        bases: digests of members of older bundles that were given -> their bytes.
    """

    path: Path
    manifest: Mapping[str, Any]
    identity: str
    envelope: bytes
    bases: Mapping[str, memoryview]
    _bundle: reader.Bundle
    _names: Mapping[str, str]
    _patches: dict[tuple[str, str], asyncio.Task[bytes | None]] = field(default_factory=dict)
    _encoders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    @property
    def app(self) -> str:
        """The app's own name."""
        return str(self.manifest["app"]["name"])

    @property
    def version(self) -> str:
        """The app's version, as whoever compiled it named it."""
        return str(self.manifest["app"]["version"])

    def data(self, digest: str) -> memoryview | None:
        """A member's bytes by its SHA-256; None where the bundle has no such member."""
        name = self._names.get(digest)
        return None if name is None else self._bundle.member(name)

    def base(self, member: Member, held: Sequence[Held]) -> str | None:
        """The SHA-256 of the file that a device has which is likest to a member, and which this machine has too."""
        if self.manifest.get("encryption") is not None:  # two encryptions have nothing in common
            return None
        return choose(member, held, self.bases.keys() | members.names())

    async def patch(self, base: str, digest: str) -> bytes | None:
        """A patch from a file that a device has to a member; None where none can be made. Made once a run."""
        key = (base, digest)
        if key not in self._patches:
            self._patches[key] = asyncio.ensure_future(self._encoded(base, digest))
        return await asyncio.shield(self._patches[key])

    async def _encoded(self, base: str, digest: str) -> bytes | None:
        new = self.data(digest)
        old = self.bases.get(base)
        before = bytes(old) if old is not None else await asyncio.to_thread(members.get, base)
        if new is None or before is None:
            return None
        from edgec.flash import delta  # with numpy: not every flash needs it

        async with self._encoders:
            try:
                return await asyncio.to_thread(delta.encode, before, bytes(new), most=int(WORTH * len(new)))
            except (delta.TooLargeError, PatchError, AssertionError, MemoryError):
                return None  # what is no gain, or does not prove itself, is not sent; the member is, whole

    def remember(self, wanted: Sequence[Member]) -> None:
        """Keep what a device has now, for the next delta."""
        for member in wanted:
            if (data := self.data(member.sha256)) is not None:
                members.put(member.sha256, data)


def choose(member: Member, held: Sequence[Held], known: frozenset[str] | set[str]) -> str | None:
    """The base for a member: of those that both sides have, the one of its name, else one of its folder and size."""
    if not members.LEAST <= member.size <= LARGEST:
        return None
    able = [h for h in held if h.sha256 in known and members.LEAST <= h.size <= LARGEST and h.sha256 != member.sha256]
    same = [h for h in able if h.name == member.name]
    if same:
        return same[0].sha256
    place = posixpath.dirname(member.name)
    near = [h for h in able if posixpath.dirname(h.name) == place and 0.5 <= h.size / member.size <= 2]
    return min(near, key=lambda h: abs(h.size - member.size)).sha256 if near else None


def worth(patch: bytes, missing: int) -> bool:
    """Whether a patch is sent instead of the bytes that are missing."""
    return len(patch) <= WORTH * missing


@contextlib.contextmanager
def open(path: str | Path, *, bases: Sequence[str | Path] = ()) -> Iterator[Package]:
    """Open a bundle, verified to the last byte by this machine's keys, and older ones as bases.

    A bundle that this machine does not trust is opened too: who is trusted is the device's question.

    Raises TrustError and BadInputError for a bundle that is damaged or none.
    """
    with contextlib.ExitStack() as stack:
        bundle = stack.enter_context(reader.open(path, allow_unsigned=True))
        bundle.verify_all()
        known: dict[str, memoryview] = {}
        for each in bases:
            old = stack.enter_context(reader.open(each, allow_unsigned=True))
            for entry in old.manifest["members"]:
                known[entry["sha256"]] = old.member(entry["name"])
        stack.callback(functools.partial(_release, known))
        names = {entry["sha256"]: entry["name"] for entry in bundle.manifest["members"]}
        yield Package(Path(path), bundle.manifest, bundle.identity, bundle.envelope, known, bundle, names)


def _release(views: Mapping[str, memoryview]) -> None:
    for view in views.values():
        view.release()
