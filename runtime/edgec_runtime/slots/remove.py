"""Removing an app from a device."""

from __future__ import annotations

import contextlib
import os
import shutil

from edgec_runtime import root as root_
from edgec_runtime.errors import Error, UsageError
from edgec_runtime.slots import collect, files, locks, states
from edgec_runtime.slots import state as state_


def remove(app: str, *, root: str | os.PathLike[str] | None = None) -> None:
    """Remove an app, and what of the store only it needed. A security floor stays: older versions stay out.

    Raises:
        MissingError: no such app.
        UsageError: a trial of it is under way, or the root can't be written.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    if not os.path.isdir(folder) or forgotten(where, app):
        state_.read(folder, app)  # says that it is not installed
        raise not_installed(app)
    with locks.writing(where):
        held = locks.acquire(os.path.join(folder, "trial"))
        if held is None:
            raise locks.busy(where, f"{app!r} is on trial there")
        try:
            with locks.locked(where):
                _remove(where, app, folder)
        finally:
            os.close(held)
    with contextlib.suppress(Error), locks.writing(where):
        collect.collect(where)  # else the next installation does it: what is removed is no error


def _remove(where: str, app: str, folder: str) -> None:
    """The state first: from then on it is not installed, whatever is left of it."""
    floor = states.read_or_new(where, app).floor
    if floor:
        states.write(where, app, state_.State(floor=floor))
        shutil.rmtree(os.path.join(folder, "slots"), ignore_errors=True)
        for name in ("health", "log"):
            if os.path.exists(os.path.join(folder, name)):
                os.unlink(os.path.join(folder, name))
        return
    if os.path.exists(os.path.join(folder, "state")):
        os.unlink(os.path.join(folder, "state"))
        files.sync_folder(folder)
    shutil.rmtree(folder)
    files.sync_folder(os.path.dirname(folder))


def forgotten(where: str, app: str) -> bool:
    """Whether only the security floor is left of an app that was removed."""
    try:
        state = state_.read(state_.app_folder(where, app), app)
    except UsageError:
        raise
    except Error:
        return False
    return bool(state.floor) and (state.active, state.pending, state.why) == ("-", "-", "")


def not_installed(app: str) -> Exception:
    """The app was removed."""
    from edgec_runtime.errors import MissingError

    return MissingError(
        f"the app {app!r} is not installed", "it was removed", "install it: edgec-rt install FILE", code="E1002"
    )
