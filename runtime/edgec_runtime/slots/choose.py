"""Measuring an installed app's payloads on this board, in turn, and preferring the fastest from then on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgec_runtime import cpu, golden
from edgec_runtime import root as root_
from edgec_runtime.bundle import tensors
from edgec_runtime.errors import Error, TrustError, UnsupportedError, UsageError
from edgec_runtime.model import Model
from edgec_runtime.model import choose as open_payload
from edgec_runtime.slots import preference, states
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.active import Slot, active
from edgec_runtime.slots.locks import locked

ROUNDS = 15
TURN = 0.02  # seconds that a payload runs in each round, at least
Feed = Mapping[str, Any]


def choose(app: str, *, root: str | os.PathLike[str] | None = None, feeds: Sequence[Feed] = ()) -> dict[str, Any]:
    """Time every payload of an app that this machine can use, and remember the fastest for this CPU.

    Payloads take turns, round after round in alternating order, so that what slows the board slows them all; each one's
    time is the median over the rounds. All of a bundle's payloads for a machine keep its accuracy budget.

    Args:
        app: an installed app.
        root: the device's root folder.
        feeds: inputs to run; none: the bundle's golden inputs, else zeros.

    Returns:
        {"app", "cpu", "preferred", "payloads": [{"payload", "median_s", "spread"} or {"payload", "why"}]}, the fastest
        first.

    Raises:
        MissingError: no such app. TrustError: it is damaged. UnsupportedError: no payload runs here.
        UsageError: another process holds the device's lock, or the state can't be written.
    """
    where = root_.find(root)
    slot = active(app, root=where)
    models: dict[str, Model] = {}
    refused: dict[str, str] = {}
    try:
        for entry in slot.manifest["payloads"]:
            name = entry["id"]
            try:
                models[name] = open_payload(slot.manifest, slot.payload, {}, trusted=True, payload=name)
                _proven(slot, entry, models[name])
            except TrustError:
                raise
            except Error as error:
                refused[name] = error.why or error.what
                if name in models:
                    models.pop(name).close()
        if not models:
            raise UnsupportedError(
                f"no payload of {app!r} runs on this machine",
                "; ".join(f"{name}: {why}" for name, why in refused.items()),
                "install a bundle that was compiled for this board",
                code="E401",
            )
        some = next(iter(models.values()))
        recorded = _read(slot, slot.manifest["golden"]["inputs"])
        inputs = list(feeds) or [golden.feed(sample) for sample in golden.samples(recorded)] or [_zeros(some)]
        times = _times({name: model.run for name, model in models.items()}, inputs)
    finally:
        for model in models.values():
            model.close()
    ranked = sorted(times, key=lambda name: times[name][0])
    _remember(where, app, slot, ranked[0])
    measured = [{"payload": name, "median_s": times[name][0], "spread": times[name][1]} for name in ranked]
    return {
        "app": app,
        "cpu": cpu.name(),
        "preferred": ranked[0],
        "payloads": [*measured, *({"payload": name, "why": why} for name, why in refused.items())],
    }


def _times(runs: Mapping[str, Callable[[Feed], Any]], inputs: Sequence[Feed]) -> dict[str, tuple[float, float]]:
    """Seconds a call for each, (median, distance between the quartiles over the median)."""
    calls, seconds = {}, {name: [] for name in runs}  # type: tuple[dict[str, int], dict[str, list[float]]]
    for name, run in runs.items():
        run(inputs[0])  # the first call of an engine allocates
        start = time.perf_counter()
        run(inputs[0])
        calls[name] = max(1, int(TURN / max(time.perf_counter() - start, 1e-6)))
    names = list(runs)
    for turn in range(ROUNDS):
        for name in names if turn % 2 else reversed(names):
            feed, run = inputs[turn % len(inputs)], runs[name]
            start = time.perf_counter()
            for _ in range(calls[name]):
                run(feed)
            seconds[name].append((time.perf_counter() - start) / calls[name])
    result = {}
    for name, found in seconds.items():
        found.sort()
        median = found[len(found) // 2]
        result[name] = (median, (found[len(found) * 3 // 4] - found[len(found) // 4]) / median)
    return result


def _proven(slot: Slot, entry: Mapping[str, Any], model: Model) -> None:
    """Raise GoldenError where a payload does not give its recorded answers here: its speed counts for nothing then."""
    expected, inputs = entry["golden"], slot.manifest["golden"]["inputs"]
    if expected is not None and inputs is not None:
        golden.check(model.run, _read(slot, inputs), _read(slot, expected["file"]), expected["min_sqnr_db"])


def _read(slot: Slot, member: str | None) -> dict[str, tensors.Tensor]:
    """A golden file's tensors; none where the bundle has no such file."""
    if member is None:
        return {}
    with open(slot.path(member), "rb") as file:
        return tensors.decode(file.read())


def _zeros(model: Model) -> Feed:
    from edgec_runtime.cli.bench_command import zeros

    return zeros(model.inputs)


def _remember(where: str, app: str, slot: Slot, payload: str) -> None:
    """Write the preference into the state, if the slot that was measured still is the active one."""
    if not preference.storable(payload):
        raise UsageError(
            f"the payload's id {payload[:40]!r} can't be remembered",
            "ids are short and printable ASCII",
            "",
            code="E205",
        )
    try:
        with locked(where):
            folder = state_.app_folder(where, app)
            state = state_.read(folder, app)
            current = state.pending if state.phase == "probation" else state.active
            if state.slot(current)[0] != slot.info["identity"]:
                raise UsageError(
                    f"{app!r} was updated while it was measured",
                    "the preference would be another version's",
                    "choose again",
                    code="E202",
                )
            state.more = preference.lines(state, payload, cpu.name())
            states.write(where, app, state)
    except OSError as error:
        raise UsageError(
            f"can't write into {where}", str(error), "run it as the owner of that folder", code="E201"
        ) from None
