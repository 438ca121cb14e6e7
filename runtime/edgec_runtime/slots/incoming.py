"""An installation as it comes in: checked first, its missing members sent piece by piece, then acknowledged as a whole.

    with begin(envelope) as incoming:
        for member in incoming.members:
            …append or patch, then finish…
        incoming.commit()
    trial(incoming.name)

Until `commit` has returned nothing that loads has changed; once it has, the version is on trial and outlives a power
cut. Parts of members stay when the link is lost, and `begin` says how far they came.
"""

from __future__ import annotations

import binascii
import os
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, NamedTuple

from edgec_runtime import root as root_
from edgec_runtime.errors import BadInputError, TrustError, UsageError
from edgec_runtime.slots import admission, boot, files, hooks, journal, locks, ready, room, states, store
from edgec_runtime.slots import part as part_
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.active import store_path
from edgec_runtime.trust.store import Trust, load_trusted

MAX_TRIES, MAX_DEADLINE = 100, 7 * 86400.0


class Member(NamedTuple):
    """A member that this machine needs. `have` bytes of it are here already: all of them where the store has it."""

    name: str
    sha256: str
    size: int
    have: int


class Incoming:
    """One installation under way; holds `stage/lock` until it is closed (a context manager).

    Attributes:
        name: the app on this device.
        identity, manifest: of the bundle.
        entries: its payloads that this machine can use.
        members: what these need, each content once, in the manifest's order.
        unchanged: the active slot holds exactly this already; `commit` then changes nothing.
        slot: where it goes; `active` is the other one.
        written: bytes that went into the store.
    """

    def __init__(
        self, where: str, name: str, envelope: bytes, signed: admission.Signed, entries: Any, held: int
    ) -> None:
        self.name = name
        self.identity = signed.identity
        self.manifest = signed.manifest
        self.entries: list[Mapping[str, Any]] = entries
        self.written = 0
        self._where, self._envelope, self._held = where, envelope, held
        self._stage = os.path.join(where, "stage")
        self._parts: dict[str, part_.Part] = {}
        needed = admission.needed(signed.manifest, self.entries)
        self._ready = ready.encode(signed.identity, signed.signers, signed.manifest, self.entries, needed)
        self._sizes = {member["sha256"]: member["size"] for member in needed}
        self._stored = {digest for digest, size in self._sizes.items() if store.holds(where, digest, size)}
        with locks.locked(where):
            self.slot, self.unchanged = self._place()
            self.active = "b" if self.slot == "a" else "a"
            self._make_room()
        for digest, size in self._sizes.items():
            if digest not in self._stored and part_.length(self._stage, digest) >= size:
                self._complete(digest)
        first = {member["sha256"]: member["name"] for member in reversed(needed)}
        self.members = [
            Member(m["name"], m["sha256"], m["size"], self._have(m["sha256"]))
            for m in needed
            if first[m["sha256"]] == m["name"]
        ]

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
        except (delta.PatchError, BadInputError) as error:
            self._parts.pop(sha256).remove()
            if isinstance(error, BadInputError):
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
        self._complete(sha256)
        if sha256 not in self._stored:
            raise TrustError(
                f"the member {sha256[:12]} is not what the manifest says",
                "its SHA-256 differs: it was damaged on its way, or sent from another file",
                "send it again",
                code="E508",
            )

    def commit(self, *, confirm: str = "auto", deadline: float = state_.DEADLINE, tries: int = 3) -> None:
        """Put the version on trial. When this returns it lasts: acknowledge it, then call `trial`.

        Args:
            confirm: "auto": a passed trial commits it. "manual": it then waits for `confirm` until the deadline.
            deadline: seconds for the health check, and of that probation.
            tries: how often a trial is begun before the version is given up.

        Raises:
            BadInputError: members are missing (E942), no room (E906). RolledBackError: a hook said no (E707).
            UsageError: the app was changed meanwhile, or its trial is under way (E202). TrustError: as `begin`.
        """
        if confirm not in ("auto", "manual") or not 0 < deadline <= MAX_DEADLINE or not 0 < tries <= MAX_TRIES:
            raise UsageError(
                f"confirm={confirm!r}, deadline={deadline!r}, tries={tries!r} make no sense",
                "",
                f"confirm is auto or manual, the deadline up to {MAX_DEADLINE:.0f} s, tries 1 to {MAX_TRIES}",
                code="E205",
            )
        for digest in self._sizes:
            self.finish(digest)
        with locks.writing(self._where):
            files.sync_folder(store.folder(self._where))
        if not self.unchanged:
            self._hooks("post-verify")
        with locks.writing(self._where), locks.locked(self._where):
            if self._place() != (self.slot, self.unchanged):
                raise locks.busy(self._where, f"the app {self.name!r} was changed meanwhile")
            if self.unchanged:
                return
            self._write(confirm, deadline, tries)
        journal.note(
            self._where, self.name, "installed", version=self.manifest["app"]["version"], identity=self.identity,
            slot=self.slot, bytes=self.written,
        )  # fmt: skip

    def close(self) -> None:
        """Give the lock back. Parts that are not finished stay."""
        for part in self._parts.values():
            part.close()
        self._parts.clear()
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def __enter__(self) -> Incoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _place(self) -> tuple[str, bool]:
        """(the slot that is free, whether the active one holds this already); locked by the caller."""
        state = states.read_or_new(self._where, self.name)
        folder = state_.app_folder(self._where, self.name)
        if state.phase == "trial" and os.path.isdir(folder):
            held = locks.acquire(os.path.join(folder, "trial"))
            if held is None:
                raise locks.busy(self._where, f"a version of {self.name!r} is on trial")
            os.close(held)
        if state.phase == "probation" and state_.effective(state, boot.boot_id(), boot.now()) == state.pending:
            raise UsageError(
                f"a version of {self.name!r} is on probation",
                "another one can be installed once it is decided",
                f"edgec-rt confirm {self.name}, or edgec-rt rollback {self.name}",
                code="E202",
            )
        admission.not_older(self.name, self.manifest, state, self._where)
        active = os.path.join(folder, "slots", state.active)
        held_already = state.phase == "none" and state.active in state_.SLOTS
        return state.inactive(), held_already and ready.same(active, self._envelope, self._ready)

    def _write(self, confirm: str, deadline: float, tries: int) -> None:
        """The slot's files, then the state that puts them on trial."""
        state = states.read_or_new(self._where, self.name)
        folder = os.path.join(state_.app_folder(self._where, self.name), "slots", self.slot)
        if state.other != "-" or state.phase != "none":  # what the slot held is given up before it is overwritten
            states.forget_pending(state, state.why, state.previous_error)
            states.write(self._where, self.name, state)
        ready.write(folder, self._envelope, self._ready, self._stage)
        state.pending, state.phase, state.tries = self.slot, "trial", tries
        state.confirm, state.deadline = confirm, float(deadline)
        state.other, state.other_ready = self.identity, f"{binascii.crc32(self._ready):08x}"
        states.write(self._where, self.name, state)

    def _make_room(self) -> None:
        missing = sum(
            max(0, size - part_.length(self._stage, digest))
            for digest, size in self._sizes.items()
            if digest not in self._stored
        )
        need = missing + len(self._envelope) + len(self._ready) + room.SMALL
        room.make(self._where, self.name, need, frozenset(self._sizes))

    def _size(self, sha256: str) -> int:
        try:
            return int(self._sizes[sha256])
        except KeyError:
            raise BadInputError(
                f"{sha256[:64]!r} is not a member that this machine needs",
                f"the manifest of {self.name!r} names others",
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
                part = self._parts[sha256] = part_.Part(self._stage, sha256, self._sizes[sha256])
        return part

    def _complete(self, sha256: str) -> None:
        """Move a member whose bytes are all here into the store, if they are right; else take its part away."""
        part = self._part(sha256)
        if part is None:
            return
        with locks.writing(self._where):
            if part.have == self._sizes[sha256] and part.digest() == sha256:
                part.place(store_path(self._where, sha256))
                self._stored.add(sha256)
                self.written += part.have
            else:
                part.remove()
            del self._parts[sha256]

    def _have(self, sha256: str) -> int:
        return self._sizes[sha256] if sha256 in self._stored else part_.length(self._stage, sha256)

    def _hooks(self, point: str) -> None:
        hooks.run_all(point, self.manifest, self._where, self.name, self.slot)


def begin(
    envelope: bytes, *, root: str | os.PathLike[str] | None = None, trust: Trust = None, app: str | None = None
) -> Incoming:
    """Check everything about a bundle that can be known from its signed manifest, and get ready for its members.

    Args:
        envelope: the bundle's signed manifest (`manifest.dsse`).
        root: the device's root folder (`root.find`); created where it does not exist.
        trust: the keys to trust; None for those of the root.
        app: the app's name on this device; None for the bundle's own.

    Raises:
        TrustError: not trusted, below the app's security floor (E509), or older than its active version (E511).
        UnsupportedError, MissingError: no payload that this machine can use, each with the reason; a hook is not here.
        BadInputError: the manifest breaks the format, or not enough room (E906).
        UsageError: another transfer is under way (E202), or the root can't be written (E201).
        RolledBackError: a hook said no (E707).
    """
    where = root_.find(root)
    trusted = load_trusted(None, root=where) if trust is None else load_trusted(trust)
    signed = admission.signed(envelope, trusted, where)
    name = app if app is not None else signed.manifest["app"]["name"]
    state_.app_folder(where, name)
    entries = admission.usable(signed.manifest)
    hooks.check(signed.manifest)
    with locks.writing(where):
        files.make_folders(os.path.join(where, "stage"))
        files.make_folders(store.folder(where))
        held = locks.acquire(os.path.join(where, "stage", "lock"), locks.WAIT)
        if held is None:
            raise locks.busy(where, "another transfer is under way")
        try:
            incoming = Incoming(where, name, envelope, signed, entries, held)
            incoming._hooks("pre-install")
        except BaseException:
            os.close(held)
            raise
    return incoming
