"""Installing a bundle on this device, so that a power cut at any moment leaves the old version or the new one.

verify everything → can this machine use it → lock → is there room → write what is missing into the store → write the
slot that is not active → write the state. Only the last step changes what is loaded. Trials, rollback and collection of
what nobody refers to any more come with updates in the field.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from edgec_runtime import cpu, preflight, select
from edgec_runtime import machine as machine_
from edgec_runtime import root as root_
from edgec_runtime.bundle import reader
from edgec_runtime.errors import BadInputError, Error, UsageError
from edgec_runtime.slots import files, preference, proven
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.active import READY_FORMAT, store_path
from edgec_runtime.trust.store import Trust

WAIT = 10.0  # seconds to wait for another installation to end
LOADED = ("app", "inputs", "outputs", "preprocessing", "postprocessing", "golden")  # of the manifest, when loading


class Installed:
    """What an installation did: the app, its slot, the manifest's identity, bytes written to the store."""

    __slots__ = ("app", "identity", "payloads", "slot", "written")

    def __init__(self, app: str, slot: str, identity: str, payloads: list[str], written: int) -> None:
        self.app = app
        self.slot = slot
        self.identity = identity
        self.payloads = payloads
        self.written = written

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {name: getattr(self, name) for name in self.__slots__}


def install(
    bundle_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    trust: Trust = None,
    app: str | None = None,
) -> Installed:
    """Install a bundle as an app and make it the active version.

    Args:
        bundle_path: the `.edge` file. It must be signed by a trusted key.
        root: the device's root folder (`root.find`); created where it does not exist.
        trust: the keys to trust; None for those of the root.
        app: the app's name on this device; None for the bundle's own.

    Raises:
        TrustError: not trusted, damaged, or older than the app's security floor.
        UnsupportedError, MissingError: no payload that this machine can use, each listed with the reason.
        BadInputError: not a bundle, or not enough room on the disk.
        UsageError: another installation is under way, or the root can't be written.
    """
    where = root_.find(root)
    if trust is None:
        from edgec_runtime.trust import store

        trust = store.load_trusted(None, root=where)
    with reader.open(bundle_path, trust=trust) as bundle:
        name = app if app is not None else bundle.manifest["app"]["name"]
        folder = state_.app_folder(where, name)
        bundle.verify_all()
        entries = _usable(bundle.manifest)
        try:
            with locked(where):
                done = _install(bundle, where, name, folder, entries)
            proven.record(where, name)
            return done
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(where, str(error)) from None
            raise UsageError(
                f"can't write into {where}",
                str(error),
                "run it as the owner of that folder, or set EDGEC_ROOT to another",
                code="E201",
            ) from None


def _install(bundle: reader.Bundle, where: str, name: str, folder: str, entries: list[Mapping[str, Any]]) -> Installed:
    state, stage = state_.State(), os.path.join(where, "stage")
    if os.path.exists(os.path.join(folder, "state")):
        state = _readable(folder, name)
    sequence = bundle.manifest["app"]["sequence"]
    if sequence < state.floor:
        raise _below_floor(name, sequence, state.floor)
    files.make_folders(stage)
    for left in os.listdir(stage):  # of installations that were cut off: we hold the lock, so nobody uses them
        if left.endswith(files.TEMPORARY):
            os.unlink(os.path.join(stage, left))
    kept = _store(bundle, where, stage, entries)
    ready = _ready(bundle, entries, kept)
    ids, written = [entry["id"] for entry in entries], sum(size for _, size, fresh in kept.values() if fresh)
    if state.active in state_.SLOTS and _same(os.path.join(folder, "slots", state.active), bundle.envelope, ready):
        return Installed(name, state.active, bundle.identity, ids, written)
    slot = "b" if state.active == "a" else "a"
    slot_folder = os.path.join(folder, "slots", slot)
    files.make_folders(slot_folder)
    files.write_atomic(os.path.join(slot_folder, "manifest.dsse"), bundle.envelope, stage)
    files.write_atomic(os.path.join(slot_folder, "ready.json"), ready, stage)
    new = state_.State(
        seq=state.seq + 1,
        active=slot,
        floor=state.floor,
        identity=bundle.identity,
        ready=f"{binascii.crc32(ready):08x}",
        more=preference.surviving(state, ids, cpu.name()),
    )
    files.write_atomic(os.path.join(folder, "state"), state_.encode(new), stage)
    return Installed(name, slot, bundle.identity, ids, written)


def _same(slot_folder: str, envelope: bytes, ready: bytes) -> bool:
    """True if a slot holds exactly this: then there is nothing to do."""
    for name, data in (("manifest.dsse", envelope), ("ready.json", ready)):
        try:
            with open(os.path.join(slot_folder, name), "rb") as file:
                if file.read(len(data) + 1) != data:
                    return False
        except OSError:
            return False
    return True


def _usable(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The payloads that this machine can use with the engines that are installed, in order, as `select.distinct`."""
    here = machine_.this()
    here.memory = None  # what is free at this moment says nothing about later
    refused: select.Refused = {}
    usable = []
    for entry in manifest["payloads"]:
        refused[entry["id"]] = select.obstacle(entry, here, trusted=True) or ""
    for entry in select.order(manifest["payloads"], here):
        if not refused[entry["id"]]:
            engine = select.engine_for(entry)
            library = None if isinstance(engine, str) else engine.library()
            if isinstance(engine, str):
                refused[entry["id"]] = engine
            elif library is not None and (why := next(preflight.library_problems(library, here), "")):
                refused[entry["id"]] = why
            else:
                usable.append(entry)
    if not usable:
        raise select.none_usable(manifest["payloads"], refused, here)
    return select.distinct(usable)


def _store(
    bundle: reader.Bundle, where: str, stage: str, entries: list[Mapping[str, Any]]
) -> dict[str, tuple[str, int, bool]]:
    """Put the members that this machine needs into the store: name -> (SHA-256, size, whether it was written)."""
    golden = bundle.manifest["golden"]
    names = {name for entry in entries for name in entry["files"].values()}
    names |= {entry["golden"]["file"] for entry in entries if entry["golden"]}
    names |= {name for name in (golden["inputs"],) if name}
    wanted = [member for member in bundle.manifest["members"] if member["name"] in names]
    folder = os.path.dirname(store_path(where, "-"))
    files.make_folders(folder)
    fresh = {m["name"] for m in wanted if not _holds(store_path(where, m["sha256"]), m["size"], m["sha256"])}
    room, need = files.free_bytes(folder), sum(m["size"] for m in wanted if m["name"] in fresh)
    if need > room:
        raise _no_room(where, f"it needs {need:,} bytes; {room:,} are free")
    for member in wanted:
        if member["name"] in fresh:
            files.place(store_path(where, member["sha256"]), partial(bundle.copy, member["name"]), stage)
    files.sync_folder(folder)
    return {m["name"]: (m["sha256"], m["size"], m["name"] in fresh) for m in wanted}


def _holds(path: str, size: int, digest: str) -> bool:
    """True if the store has this file already, and it is whole."""
    from hashlib import sha256

    hashed = sha256()
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                return False
            while chunk := file.read(reader.CHUNK):
                hashed.update(chunk)
    except OSError:
        return False
    return hashed.hexdigest() == digest


def _ready(bundle: reader.Bundle, entries: list[Mapping[str, Any]], kept: Mapping[str, tuple[str, int, bool]]) -> bytes:
    """What a load needs to know, in a form that is quick to read."""
    import json

    record = {
        "format": READY_FORMAT,
        "identity": bundle.identity,
        "signers": list(bundle.signers),
        "manifest": {**{name: bundle.manifest[name] for name in LOADED}, "payloads": entries},
        "store": {name: (digest, size) for name, (digest, size, _) in kept.items()},
    }
    return json.dumps(record, separators=(",", ":")).encode()


def _readable(folder: str, name: str) -> state_.State:
    try:
        return state_.read(folder, name)
    except Error:
        return state_.State()  # damaged: installing again is how it is mended


@contextlib.contextmanager
def locked(where: str) -> Iterator[None]:
    """Hold the root's lock. Raises UsageError where another process holds it for too long."""
    import fcntl

    files.make_folders(where)
    file = os.open(os.path.join(where, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UsageError(
                        f"another edgec-rt is at work in {where}",
                        f"its lock was held for {WAIT:.0f} seconds",
                        "wait until it has ended, then try again",
                        code="E202",
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(file)


def _no_room(where: str, why: str) -> Error:
    return BadInputError(
        f"not enough room in {where}", why, "free some space; nothing was changed for the app", code="E906"
    )


def _below_floor(name: str, sequence: int, floor: int) -> Error:
    from edgec_runtime.errors import TrustError

    return TrustError(
        f"the bundle's sequence {sequence} is below the app's security floor {floor}",
        f"a newer version of {name!r} has forbidden older ones",
        "install a bundle with a sequence from the floor on",
        code="E509",
    )
