"""Collection: members of the store that no slot refers to, slots that no state refers to, what transfers left behind.

Nothing is collected while an app is on trial, while a transfer is under way, or where a state or a slot can't be read:
then it is not known what is needed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time

from edgec_runtime.errors import Error
from edgec_runtime.slots import active, files, locks, part, states, store
from edgec_runtime.slots import state as state_

STALE = 7 * 86400.0  # seconds after which an unfinished transfer is not expected to go on


def collect(where: str) -> int:
    """Collect, if nobody transfers. Returns the bytes that were freed. Raises OSError."""
    files.make_folders(os.path.join(where, "stage"))
    held = locks.acquire(os.path.join(where, "stage", "lock"))
    if held is None:
        return 0
    try:
        with locks.locked(where):
            return collect_locked(where)
    finally:
        os.close(held)


def collect_locked(where: str, keep: frozenset[str] = frozenset()) -> int:
    """The same for a caller that holds stage/lock and the root's lock; members in `keep` stay. Returns bytes freed."""
    needed = referenced(where)
    if needed is None:
        return 0
    for app in states.apps(where):
        _slots(where, app)
    freed = 0
    for digest, size in list(store.members(where)):
        if digest not in needed and digest not in keep:
            os.unlink(active.store_path(where, digest))
            freed += size
    return freed + _stage(where, keep)


def referenced(where: str, *, without: str = "") -> set[str] | None:
    """Digests that slots refer to; None where that can't be said, or an app is on trial.

    `without` is an app whose inactive slot counts for nothing, to see what giving it up would free.
    """
    needed: set[str] = set()
    for app in states.apps(where):
        if not os.path.exists(os.path.join(where, "apps", app, "state")):
            continue
        try:
            state = state_.read(state_.app_folder(where, app), app)
            if state.phase == "trial" and app != without:
                return None
            for name in state_.SLOTS:
                if state.slot(name)[0] != "-" and not (app == without and name != state.active):
                    needed |= {digest for digest, _ in active.slot(where, app, state, name).store.values()}
        except Error:
            return None
    return needed


def _slots(where: str, app: str) -> None:
    """Remove the folders of slots that the app's state does not know, and the app's own where it has no state."""
    folder = os.path.join(where, "apps", app)
    if not os.path.exists(os.path.join(folder, "state")):
        held = None
        with contextlib.suppress(OSError):
            held = locks.acquire(os.path.join(folder, "trial"))
        if held is not None:
            try:
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)
        return
    state = state_.read(folder, app)
    for name in state_.SLOTS:
        if state.slot(name)[0] == "-":
            shutil.rmtree(os.path.join(folder, "slots", name), ignore_errors=True)


def _stage(where: str, keep: frozenset[str]) -> int:
    """Remove unfinished files of processes that died, and parts of transfers that nobody goes on with."""
    stage, freed = os.path.join(where, "stage"), 0
    for name in os.listdir(stage):
        path = os.path.join(stage, name)
        if name.endswith(files.TEMPORARY):
            with contextlib.suppress(OSError):
                os.unlink(path)
        elif name.endswith(part.SUFFIX) and name[: -len(part.SUFFIX)] not in keep:
            with contextlib.suppress(OSError):
                found = os.lstat(path)
                if abs(time.time() - found.st_mtime) > STALE:
                    part.clear_strange(path)
                    if os.path.lexists(path):
                        os.unlink(path)
                    freed += found.st_size
    return freed
