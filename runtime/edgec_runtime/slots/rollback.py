"""Going back: a trial or a probation is ended, or the version before becomes the active one again."""

from __future__ import annotations

import os

from edgec_runtime import root as root_
from edgec_runtime.errors import MissingError
from edgec_runtime.slots import active, admission, journal, locks, ready, states, trial
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.health_child import verify
from edgec_runtime.slots.trial import Outcome

ASKED = "it was asked for"


def rollback(app: str, *, root: str | os.PathLike[str] | None = None) -> Outcome:
    """End the trial or the probation of an app's new version; where there is none, swap its two versions.

    The other version's files are hashed before it becomes active. Asked again, the swap goes back. A version below the
    security floor that a later one raised stays out.

    Raises:
        MissingError: no such app, or no other version (E1006).
        TrustError: the other version is damaged (E507, E508), or below the security floor (E509): nothing was changed.
        UsageError: the root can't be written, or the app was changed meanwhile.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    state = state_.read(folder, app)
    if state.phase == "none":
        _check_other(where, app, state)
    with locks.writing(where), locks.locked(where):
        now = state_.read(folder, app)
        if (now.active, now.pending, now.phase, now.other) != (state.active, state.pending, state.phase, state.other):
            raise locks.busy(where, f"the app {app!r} was changed meanwhile")
        if now.phase != "none":
            trial.undo(where, app, now, ASKED, "E711")
            return trial.outcome_of(where, app, now, "rolled-back", ASKED, "E711")
        trial.swap(now)
        now.why, now.previous_error = ASKED, "E711"
        states.write(where, app, now)
    outcome = trial.outcome_of(where, app, now, "rolled-back", ASKED, "E711")
    journal.note(where, app, "rolled-back", version=outcome.version, identity=now.identity, why=ASKED, code="E711")
    return outcome


def _check_other(where: str, app: str, state: state_.State) -> None:
    """Raise where the version in the other slot can't become the active one."""
    if state.other == "-":
        raise MissingError(
            f"the app {app!r} has no other version to go back to",
            "the device keeps the version before the last, until room is needed or a trial has failed",
            "install the version that you want",
            code="E1006",
        )
    slot = active.slot(where, app, state, state.inactive())
    ready.manifest(slot.folder, state.other)
    for member, (digest, _) in slot.store.items():
        verify(slot, member, digest)
    sequence = slot.manifest["app"]["sequence"]
    if sequence < state.floor:
        raise admission.below_floor(app, sequence, state.floor)
