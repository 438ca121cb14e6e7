"""Writing an app's state: the one step that changes what is loaded."""

from __future__ import annotations

import os

from edgec_runtime.errors import Error, MissingError, UsageError
from edgec_runtime.slots import files
from edgec_runtime.slots import state as state_


def write(where: str, app: str, state: state_.State) -> None:
    """Count the write and make the record last; the caller holds the root's lock. Raises OSError."""
    state.seq += 1
    files.make_folders(os.path.join(where, "stage"))
    path = os.path.join(state_.app_folder(where, app), "state")
    files.write_atomic(path, state_.encode(state), os.path.join(where, "stage"))


def read_or_new(where: str, app: str) -> state_.State:
    """The state of an app; an empty one where there is none, or it is damaged: installing again mends that.

    A damaged record's security floor is that of the versions in its slots: damage must not open the way for old ones.
    """
    folder = state_.app_folder(where, app)
    try:
        return state_.read(folder, app)
    except MissingError:
        return state_.State()
    except UsageError:
        raise
    except Error:
        return state_.State(floor=max(_floor(os.path.join(folder, "slots", slot)) for slot in state_.SLOTS))


def _floor(slot: str) -> int:
    """The security floor that a slot's manifest sets; it was verified when it was installed."""
    from edgec_runtime.bundle import dsse, layout, manifest

    try:
        with open(os.path.join(slot, "manifest.dsse"), "rb") as file:
            envelope = dsse.parse_envelope(file.read(layout.MAX_ENVELOPE + 1))
        return int(manifest.parse(envelope.payload)["app"].get("floor", 0))
    except (OSError, Error):
        return 0


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
