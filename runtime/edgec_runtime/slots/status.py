"""What is installed here, and how it is with each app: for `edgec-rt status`, and for the host."""

from __future__ import annotations

import os
from typing import Any

from edgec_runtime import root as root_
from edgec_runtime.errors import Error
from edgec_runtime.slots import active, boot, remove, states, trial
from edgec_runtime.slots import state as state_


def status(app: str | None = None, *, root: str | os.PathLike[str] | None = None) -> list[dict[str, Any]]:
    """One app, or all of them. Nothing is written, and nothing is hashed.

    Each has `app`; `version`, `sequence`, `identity`, `slot` of what a load gets now, "" or None where it gets nothing;
    `phase` none, trial, probation or damaged; `pending` {version, identity} or None; `tries` left; `remaining_s` of a
    probation or None; `floor`; `other` {version, identity} to roll back to, or None; `health` of the last trial; `why`
    and `code` of the last rollback; `bytes` in the store that it needs; `problem`, "" where nothing is wrong.

    Raises MissingError where `app` is not installed.
    """
    where = root_.find(root)
    if app is not None:
        state_.app_folder(where, app)
        if remove.forgotten(where, app):
            raise remove.not_installed(app)
        return [_one(where, app)]
    found = []
    for name in states.apps(where):
        if os.path.exists(os.path.join(where, "apps", name, "state")) and not remove.forgotten(where, name):
            found.append(_one(where, name))
    return found


def _one(where: str, app: str) -> dict[str, Any]:
    record: dict[str, Any] = {
        "app": app, "version": "", "sequence": None, "identity": "", "slot": "", "phase": "damaged", "pending": None,
        "tries": 0, "remaining_s": None, "floor": 0, "other": None, "health": {}, "why": "", "code": "", "bytes": 0,
        "problem": "",
    }  # fmt: skip
    try:
        state = state_.read(state_.app_folder(where, app), app)
    except Error as error:
        if error.code == "E1002":
            raise
        return {**record, "problem": f"{error.what}: {error.why}"}
    now = boot.now()
    current = state_.effective(state, boot.boot_id(), now)
    sizes: dict[str, int] = {}
    problems, of = [], {}
    for name in state_.SLOTS:
        if state.slot(name)[0] == "-":
            continue
        of[name] = {"version": "", "identity": state.slot(name)[0], "sequence": None}
        try:
            slot = active.slot(where, app, state, name)
            of[name].update({key: slot.manifest["app"][key] for key in ("version", "sequence")})
            sizes.update(slot.store.values())
            for member in slot.store if name == current else ():
                slot.path(member)
        except Error as error:
            problems.append(f"{error.what}: {error.why}")
    record.update(of.get(current, {}))
    lapsed = state.phase == "probation" and current != state.pending
    if lapsed:
        problems.append("its probation is over: edgec-rt recover puts the record right")
    inactive = of.get(state.inactive())
    other = {key: inactive[key] for key in ("version", "identity")} if inactive else None
    record.update(
        slot=current.strip("-"), phase=state.phase, tries=state.tries, floor=state.floor, why=state.why,
        code=state.previous_error, bytes=sum(sizes.values()), problem="; ".join(problems),
        health=trial.last_health(where, app),
        pending=other if state.phase != "none" else None, other=other if state.phase == "none" else None,
        remaining_s=round(state.until - now, 1) if state.phase == "probation" and not lapsed else None,
    )  # fmt: skip
    return record
