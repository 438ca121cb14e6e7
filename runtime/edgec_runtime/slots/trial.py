"""The trial of a version: checked before anything loads it, then committed, put on probation, or undone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgec_runtime import cpu
from edgec_runtime import root as root_
from edgec_runtime.errors import Error, RolledBackError, UsageError
from edgec_runtime.slots import (
    active,
    boot,
    collect,
    files,
    health,
    hooks,
    journal,
    locks,
    preference,
    ready,
    states,
)  # fmt: skip
from edgec_runtime.slots import state as state_


class Outcome(NamedTuple):
    """What became of an app: result is "committed", "probation", "rolled-back" or, of `recover`, "damaged".

    `version` and `identity` are of what a load gets now, empty where it gets none; `health` has what the check found,
    with the version it was about; `code` is the reason's, as an error has it.
    """

    app: str
    result: str
    why: str
    health: dict[str, Any]
    version: str
    identity: str
    code: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return self._asdict()


def trial(app: str, *, root: str | os.PathLike[str] | None = None) -> Outcome:
    """Try the version that is on trial, and decide. Where none is, say what became of the last one.

    A try is counted, and the count made to last, before anything of the version is loaded. Where another process tries
    it, that one's end is waited for.

    Raises:
        MissingError: no such app. TrustError: its state is damaged.
        UsageError: its trial is under way in another process, or the root can't be written.
    """
    where = root_.find(root)
    folder = state_.app_folder(where, app)
    state = state_.read(folder, app)
    if state.phase != "trial":
        return decided(where, app)
    with locks.writing(where):
        try:
            held = locks.acquire(os.path.join(folder, "trial"), state.deadline + 2 * hooks.TIMEOUT)
        except FileNotFoundError:  # removed meanwhile
            return decided(where, app)
        if held is None:
            raise locks.busy(where, f"{app!r} is on trial there")
        try:
            outcome = _try(where, app)
        finally:
            os.close(held)
        if outcome is not None and outcome.result != "probation":
            _collect(where)
    return outcome or decided(where, app)


def decided(where: str, app: str) -> Outcome:
    """An app that is not on trial; a probation that has run out is undone. Raises as `trial`."""
    state = state_.read(state_.app_folder(where, app), app)
    if state.phase == "probation" and state_.effective(state, boot.boot_id(), boot.now()) != state.pending:
        with locks.writing(where), locks.locked(where):
            state = state_.read(state_.app_folder(where, app), app)
            if state.phase == "probation" and state_.effective(state, boot.boot_id(), boot.now()) != state.pending:
                undo(where, app, state, f"it was not confirmed within {state.deadline:g} s", "E710")
    result = "probation" if state.phase == "probation" else "rolled-back" if state.why else "committed"
    if state.phase == "none" and state.active == "-" and not state.why:
        raise active.none_active(state, app)
    return outcome_of(where, app, state, result, state.why, state.previous_error)


def undo(where: str, app: str, state: state_.State, why: str, code: str) -> None:
    """Give the pending version up; the caller holds the root's lock. Raises OSError."""
    gone, version = state.other, version_of(where, app, state, state.pending)
    states.forget_pending(state, why, code)
    states.write(where, app, state)
    journal.note(where, app, "rolled-back", version=version, identity=gone, why=state.why, code=code)


def outcome_of(
    where: str, app: str, state: state_.State, result: str, why: str = "", code: str = "",
    facts: Mapping[str, Any] | None = None,
) -> Outcome:  # fmt: skip
    """An Outcome of a state."""
    name = state.pending if state.phase == "probation" else state.active
    return Outcome(
        app, result, why, dict(facts or {}), version_of(where, app, state, name), state.slot(name)[0].strip("-"), code
    )


def version_of(where: str, app: str, state: state_.State, name: str) -> str:
    """The version in a slot; empty where there is none, or it can't be read."""
    if state.slot(name)[0] == "-":
        return ""
    try:
        return str(active.slot(where, app, state, name).manifest["app"]["version"])
    except Error:
        return ""


def _try(where: str, app: str) -> Outcome | None:
    """One try; None where another process decided while its end was waited for. Raises OSError."""
    with locks.locked(where):
        state = state_.read(state_.app_folder(where, app), app)
        if state.phase != "trial":
            return None
        if state.tries <= 0:
            undo(where, app, state, "its trial never came to an end: the device went down in it each time", "E709")
            return outcome_of(where, app, state, "rolled-back", state.why, "E709")
        state.tries -= 1
        states.write(where, app, state)
    version = version_of(where, app, state, state.pending)
    journal.note(where, app, "trial", version=version, identity=state.other, tries=state.tries)
    manifest: Mapping[str, Any] = {}
    try:
        manifest = ready.manifest(os.path.join(where, "apps", app, "slots", state.pending), state.other)
        found = _health(where, app, state, manifest)
    except Error as error:
        found = health.Health(False, "E708", f"{error.what}: {error.why}", {"ok": False, "code": "E708"}, {})
    facts = {"version": version, "identity": state.other, **found.facts}
    why, code, passed = found.why, found.code, found.ok
    if passed:
        try:
            ran = hooks.run_all(
                "health", manifest, where, app, state.pending, timeout=min(hooks.TIMEOUT, max(1.0, state.deadline))
            )
            facts["hooks"] = ran + hooks.run_all("pre-activate", manifest, where, app, state.pending)
        except RolledBackError as error:
            passed, why, code = False, f"{error.what}: {error.why}", error.code
            facts.update(ok=False, why=why, code=code)
    with locks.locked(where):
        now = state_.read(state_.app_folder(where, app), app)
        if (now.other, now.phase) != (state.other, "trial"):
            return outcome_of(where, app, now, "rolled-back", now.why or "it was ended meanwhile", "E711", facts)
        _note_health(where, app, facts)
        if not passed:
            undo(where, app, now, why, code)
            return outcome_of(where, app, now, "rolled-back", now.why, code, facts)
        result = accept(where, app, now, manifest, found.latency)
    if result == "committed":
        after_commit(where, app, manifest, now.active)
    return outcome_of(where, app, now, result, facts=facts)


def _health(where: str, app: str, state: state_.State, manifest: Mapping[str, Any]) -> health.Health:
    first = state.latency if state.latency_cpu == state_.printable(cpu.name()) else {}
    memory = {entry["id"]: entry["memory"] for entry in manifest["payloads"]}
    return health.check(where, app, state.pending, deadline=state.deadline, first=first, memory=memory)


def accept(where: str, app: str, state: state_.State, manifest: Mapping[str, Any], latency: Mapping[str, int]) -> str:
    """Commit a version that passed, or begin its probation; the caller holds the root's lock. Raises OSError."""
    if state.confirm == "manual" and state.phase == "trial":
        state.phase, state.boot, state.until = "probation", boot.boot_id(), boot.now() + state.deadline
        states.write(where, app, state)
        journal.note(where, app, "probation", identity=state.other, seconds=state.deadline)
        return "probation"
    swap(state)
    here = state_.printable(cpu.name())
    known = state.latency if state.latency_cpu == here else {}
    state.latency = {**known, **{name: taken for name, taken in latency.items() if name not in known}}
    state.latency_cpu = here if state.latency else ""
    ids = [entry["id"] for entry in manifest["payloads"]]
    state.more = preference.surviving(state, ids, cpu.name())
    state.floor = max(state.floor, int(manifest["app"].get("floor", 0)))
    states.write(where, app, state)
    journal.note(where, app, "committed", version=manifest["app"]["version"], identity=state.identity)
    return "committed"


def swap(state: state_.State) -> None:
    """In the record, the inactive slot becomes the active one and the other way round. Not written yet."""
    before = (state.identity, state.ready) if state.active in state_.SLOTS else ("-", "-")
    state.active = state.inactive()
    state.identity, state.ready = state.other, state.other_ready
    state.other, state.other_ready = before
    state.pending, state.phase, state.tries = "-", "none", 0
    state.boot, state.until = "-", 0.0
    state.why = state.previous_error = ""


def after_commit(where: str, app: str, manifest: Mapping[str, Any], slot: str) -> None:
    """Hooks that are told; what they say changes nothing any more."""
    try:
        hooks.run_all("post-confirm", manifest, where, app, slot)
    except RolledBackError as error:
        journal.note(where, app, "hook", why=f"{error.what}: {error.why}")


def last_health(where: str, app: str) -> dict[str, Any]:
    """What the last trial's health check found; empty where there was none."""
    try:
        with open(os.path.join(state_.app_folder(where, app), "health"), "rb") as file:
            found = json.loads(file.read(1 << 20))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _note_health(where: str, app: str, facts: Mapping[str, Any]) -> None:
    path = os.path.join(state_.app_folder(where, app), "health")
    with contextlib.suppress(OSError):  # the decision does not hang on it
        files.write_atomic(path, json.dumps(facts).encode(), os.path.join(where, "stage"))


def _collect(where: str) -> None:
    try:
        collect.collect(where)
    except (OSError, UsageError):
        return  # it is done the next time
