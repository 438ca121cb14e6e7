"""After a power cut, at each start of the device: what was under way in any app is finished, or undone."""

from __future__ import annotations

import os

from edgec_runtime import root as root_
from edgec_runtime.errors import Error
from edgec_runtime.slots import boot, collect, journal, locks, states, trial
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.trial import Outcome


def recover(*, root: str | os.PathLike[str] | None = None) -> list[Outcome]:
    """Finish or undo what is under way: trials are run, probations of an earlier boot begin anew or are undone.

    Returns an Outcome for each app that something was done for, and for each that is damaged ("damaged"); where there
    is nothing to do nothing is written. What is wrong with one app keeps none of the others.
    """
    where = root_.find(root)
    outcomes, leftovers = [], False
    for app in states.apps(where):
        try:
            folder = state_.app_folder(where, app)
            if not os.path.exists(os.path.join(folder, "state")):
                leftovers = True
                continue
            outcome = _one(where, app)
        except Error as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            outcome = Outcome(app, "damaged", why, {}, "", "", error.code)
        except Exception as error:  # a bug that one version meets must not leave the others on trial
            outcome = Outcome(app, "damaged", f"{type(error).__name__}: {error}"[:300], {}, "", "")
        if outcome is not None:
            outcomes.append(outcome)
    if outcomes or leftovers or _unfinished(where):
        try:
            with locks.writing(where):
                collect.collect(where)
        except Error:
            pass  # the next installation does it
    return outcomes


def _one(where: str, app: str) -> Outcome | None:
    state = state_.read(state_.app_folder(where, app), app)
    if state.phase == "trial":
        return trial.trial(app, root=where)
    if state.phase == "probation" and state.boot != boot.boot_id():
        with locks.writing(where), locks.locked(where):
            state = state_.read(state_.app_folder(where, app), app)
            if state.phase == "probation" and state.boot != boot.boot_id():
                return _again(where, app, state)
    if state.phase == "probation":
        outcome = trial.decided(where, app)
        return outcome if outcome.result != "probation" else None
    return None


def _again(where: str, app: str, state: state_.State) -> Outcome:
    """A probation that a restart interrupted: it begins anew, as often as there are tries."""
    if state.tries <= 0:
        trial.undo(where, app, state, "the device started again and again during its probation", "E709")
        return trial.outcome_of(where, app, state, "rolled-back", state.why, "E709")
    state.tries -= 1
    state.boot, state.until = boot.boot_id(), boot.now() + state.deadline
    states.write(where, app, state)
    journal.note(where, app, "probation", identity=state.other, tries=state.tries, seconds=state.deadline)
    return trial.outcome_of(where, app, state, "probation")


def _unfinished(where: str) -> bool:
    """Whether a process died while it wrote a file."""
    try:
        return any(name.endswith(".tmp") for name in os.listdir(os.path.join(where, "stage")))
    except OSError:
        return False
