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
from edgec_runtime.errors import UsageError
from edgec_runtime.slots import admission, boot, files, hooks, journal, locks, ready, room, states, store
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.transfer import Transfer
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
        unchanged: the active slot holds exactly this already; `commit` then changes nothing that is loaded.
        slot: where it goes; `active` is the other one.
    """

    def __init__(
        self, where: str, name: str, envelope: bytes, signed: admission.Signed, entries: Any, trust: Trust, held: int
    ) -> None:
        self.name = name
        self.identity = signed.identity
        self.manifest = signed.manifest
        self.entries: list[Mapping[str, Any]] = entries
        self._where, self._envelope, self._trust, self._held = where, envelope, trust, held
        self._stage = os.path.join(where, "stage")
        needed = admission.needed(signed.manifest, self.entries)
        self._ready = ready.encode(signed.identity, signed.signers, signed.manifest, self.entries, needed)
        self._transfer = Transfer(where, {member["sha256"]: member["size"] for member in needed})
        with locks.locked(where):
            self.slot, self.unchanged = self._place()
            self.active = "b" if self.slot == "a" else "a"
            self._make_room()
        self._transfer.take_up()
        first = {member["sha256"]: member["name"] for member in reversed(needed)}
        self.members = [
            Member(m["name"], m["sha256"], m["size"], self._transfer.have(m["sha256"]))
            for m in needed
            if first[m["sha256"]] == m["name"]
        ]

    def append(self, sha256: str, offset: int, data: bytes) -> int:
        """Write the next bytes of a member; the next offset. Raises as `Transfer.append`."""
        return self._transfer.append(sha256, offset, data)

    def patch(self, sha256: str, base: str, patch: IO[bytes]) -> None:
        """Make a member from one in the store and a patch. Raises as `Transfer.patch`."""
        self._transfer.patch(sha256, base, patch)

    def finish(self, sha256: str) -> None:
        """Check a member that is complete, and put it into the store. Raises as `Transfer.finish`."""
        self._transfer.finish(sha256)

    @property
    def written(self) -> int:
        """Bytes that went into the store."""
        return self._transfer.written

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
        check_terms(confirm, deadline, tries)
        for digest in self._transfer.sizes:
            self.finish(digest)
        with locks.writing(self._where):
            files.sync_folder(store.folder(self._where))
        if not self.unchanged:
            self._hooks("post-verify")
        with locks.writing(self._where), locks.locked(self._where):
            # Again: a transfer may take days, in which keys are replaced and things expire.
            admission.signed(self._envelope, _trusted(self._trust, self._where), self._where)
            if self._place() != (self.slot, self.unchanged):
                raise locks.busy(self._where, f"the app {self.name!r} was changed meanwhile")
            if self.unchanged:
                self._forget_rollback()
                return
            self._write(confirm, deadline, tries)
        journal.note(
            self._where, self.name, "installed", version=self.manifest["app"]["version"], identity=self.identity,
            slot=self.slot, bytes=self.written,
        )  # fmt: skip

    def close(self) -> None:
        """Give the lock back. Parts that are not finished stay."""
        self._transfer.close()
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
        return state.inactive(), held_already and ready.same(active, self.identity, state.ready, self._ready)

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

    def _forget_rollback(self) -> None:
        """What is active was sent again: whatever was rolled back before is over."""
        state = states.read_or_new(self._where, self.name)
        if state.why:
            state.why = state.previous_error = ""
            states.write(self._where, self.name, state)

    def _make_room(self) -> None:
        need = self._transfer.missing() + len(self._envelope) + len(self._ready) + room.SMALL
        room.make(self._where, self.name, need, frozenset(self._transfer.sizes))

    def _hooks(self, point: str) -> None:
        hooks.run_all(point, self.manifest, self._where, self.name, self.slot)


def check_terms(confirm: str, deadline: float, tries: int = 3) -> None:
    """Raise UsageError (E205) for terms of a trial that make no sense."""
    if confirm not in ("auto", "manual") or not 0 < deadline <= MAX_DEADLINE or not 0 < tries <= MAX_TRIES:
        raise UsageError(
            f"no trial has confirm {confirm!r}, a deadline of {deadline:g} s and {tries} tries",
            f"confirm is auto or manual, the deadline above 0 and up to {MAX_DEADLINE:.0f} s, tries 1 to {MAX_TRIES}",
            "leave them away for auto, 60 s and 3 tries",
            code="E205",
        )


def _trusted(trust: Trust, where: str) -> Mapping[str, bytes]:
    """The keys to trust now: the given ones, or those of the root."""
    return load_trusted(None, root=where) if trust is None else load_trusted(trust)


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
    signed = admission.signed(envelope, _trusted(trust, where), where)
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
            incoming = Incoming(where, name, envelope, signed, entries, trust, held)
            incoming._hooks("pre-install")
        except BaseException:
            os.close(held)
            raise
    return incoming
