"""Writing an app's state: the one step that changes what is loaded."""

from __future__ import annotations

import os

from edgec_runtime.errors import Error, UsageError
from edgec_runtime.slots import files
from edgec_runtime.slots import state as state_


def write(where: str, app: str, state: state_.State) -> None:
    """Count the write and make the record last; the caller holds the root's lock. Raises OSError."""
    state.seq += 1
    files.make_folders(os.path.join(where, "stage"))
    path = os.path.join(state_.app_folder(where, app), "state")
    files.write_atomic(path, state_.encode(state), os.path.join(where, "stage"))


def read_or_new(where: str, app: str) -> state_.State:
    """The state of an app; an empty one where there is none, or it is damaged: installing again mends that."""
    try:
        return state_.read(state_.app_folder(where, app), app)
    except UsageError:
        raise
    except Error:
        return state_.State()


def forget_pending(state: state_.State, why: str, code: str) -> None:
    """Undo a trial or a probation in the record: the slot that was active stays so. Not written yet."""
    state.pending, state.phase, state.tries = "-", "none", 0
    state.other = state.other_ready = "-"
    state.boot, state.until = "-", 0.0
    state.why, state.previous_error = state_.printable(why), code


def apps(where: str) -> list[str]:
    """The names of the folders of apps, those without a state too."""
    folder = os.path.join(where, "apps")
    try:
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    except OSError as error:
        raise UsageError(
            f"can't read {folder}", str(error), "run it as the owner of that folder", code="E201"
        ) from None
