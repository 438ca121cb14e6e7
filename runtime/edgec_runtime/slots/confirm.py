"""Confirming a version on probation: somebody, or a program, has seen that it does its work."""

from __future__ import annotations

import contextlib
import os

from edgec_runtime import root as root_
from edgec_runtime.errors import Error, RolledBackError, UsageError
from edgec_runtime.slots import boot, collect, health, locks, ready, trial
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.trial import Outcome


def confirm(app: str, *, root: str | os.PathLike[str] | None = None) -> Outcome:
    """Commit the version that is on probation. Where it is committed already, say so: the answer may have been lost.

    Raises:
        MissingError: no such app. TrustError: its state or its new slot is damaged.
        RolledBackError: too late, or it was rolled back before (E710, or that reason's code).
        UsageError: its trial is not over yet (E203), or the root can't be written.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    state = state_.read(folder, app)
    if state.phase == "trial":
        raise UsageError(
            f"{app!r} is on trial still",
            "what has not passed its health check can't be confirmed",
            f"finish it first: edgec-rt recover, then see edgec-rt status {app}",
            code="E203",
        )
    if state.phase == "probation":
        with locks.writing(where), locks.locked(where):
            state = state_.read(folder, app)
            in_time = state_.effective(state, boot.boot_id(), boot.now()) == state.pending
            if state.phase == "probation" and in_time:
                manifest = ready.manifest(os.path.join(folder, "slots", state.pending), state.other)
                trial.accept(where, app, state, manifest, _latency(where, app, state.other))
                committed = True
            else:
                committed = False
        if committed:
            trial.after_commit(where, app, manifest, state.active)
            with contextlib.suppress(Error), locks.writing(where):
                collect.collect(where)  # else the next installation does it: what is committed is no error
            return trial.outcome_of(where, app, state, "committed")
    outcome = trial.decided(where, app)
    if outcome.result == "rolled-back":
        stays = f"{outcome.version} runs" if outcome.version else "nothing is installed"
        raise RolledBackError(
            f"{app!r} has nothing to confirm: its new version was rolled back, {stays}",
            outcome.why,
            "install it again, and confirm it in time (install --deadline)",
            code=outcome.code or "E710",
        )
    return outcome


def _latency(where: str, app: str, identity: str) -> dict[str, int]:
    """What the trial of this version measured, to be remembered now that it is accepted."""
    found = trial.last_health(where, app)
    return health.latency_of(found) if found.get("identity") == identity else {}
