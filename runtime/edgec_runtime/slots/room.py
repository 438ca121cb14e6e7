"""Room for what is to come: what is free, and what may be given up for it."""

from __future__ import annotations

import os

from edgec_runtime.slots import collect, files, locks, part, states, store
from edgec_runtime.slots.state import SLOTS

SMALL = 64 << 10  # bytes for a slot's files beside the manifest, the state and the journal


def make(where: str, app: str, need: int, keep: frozenset[str]) -> None:
    """See to it that `need` bytes fit; the caller holds stage/lock and the root's lock.

    First what nobody needs goes, then other transfers' parts, at last the app's own inactive slot: its active one stays
    loadable, and the state says so before a byte is removed.

    Raises BadInputError (E906) where that is not enough: then no slot was given up. Raises OSError.
    """
    if need <= files.free_bytes(where):
        return
    collect.collect_locked(where, keep)
    if need <= files.free_bytes(where):
        return
    _drop_parts(where, keep)
    free = files.free_bytes(where)
    if need <= free:
        return
    state = states.read_or_new(where, app)
    given_up = _given_up(where, app, keep) if state.active in SLOTS and state.phase == "none" else 0
    if given_up == 0 or need > free + given_up:
        raise locks.no_room(where, f"it needs {need:,} bytes; {free:,} are free")
    state.other = state.other_ready = "-"
    states.write(where, app, state)
    collect.collect_locked(where, keep)
    free = files.free_bytes(where)
    if need > free:
        raise locks.no_room(where, f"it needs {need:,} bytes; {free:,} are free")


def _given_up(where: str, app: str, keep: frozenset[str]) -> int:
    """Bytes that giving up the app's inactive slot frees."""
    if states.read_or_new(where, app).other == "-":
        return 0
    needed = collect.referenced(where, without=app)
    if needed is None:
        return 0
    return sum(size for digest, size in store.members(where) if digest not in needed and digest not in keep)


def _drop_parts(where: str, keep: frozenset[str]) -> None:
    stage = os.path.join(where, "stage")
    for name in os.listdir(stage):
        if name.endswith(part.SUFFIX) and name[: -len(part.SUFFIX)] not in keep:
            path = os.path.join(stage, name)
            part.clear_strange(path)
            if os.path.lexists(path):
                os.unlink(path)
