"""The health check itself, in a process of its own: what is wrong with a new version must not take down who asks.

    python -m edgec_runtime.slots.health_child ROOT APP SLOT SECONDS

Writes lines of JSON: {"step": what it is about to do}, and at last {"health": …}. Each payload is loaded in a process
forked for it, so that a crash is that payload's, and its memory is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edgec_runtime.errors import Error, GoldenError
from edgec_runtime.slots import active, contained, proven, ready, store
from edgec_runtime.slots import state as state_

RUNS, LONGEST = 7, 2.0  # timed runs at most, and seconds after which no further one is begun
OOM_FIRST = b"1000"  # of all processes this one is to be killed where memory runs out
MAX_ANSWER = 1 << 20  # bytes


def main(arguments: list[str]) -> int:
    """Check a slot and write the result. Returns the exit code: 0 once there is a result, whatever it says."""
    root, app, name, seconds = arguments
    end = time.monotonic() + float(seconds) + 5
    signal.alarm(_left(end))  # where nobody is left to kill this one
    contained.no_core()
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
        file.write(OOM_FIRST)
    try:
        health = check(root, app, name, lambda step: _say({"step": step}), end)
    except Error as error:
        health = {"ok": False, "code": "E708", "why": f"{error.what}: {error.why}" if error.why else error.what}
    _say({"health": health})
    return 0


def check(root: str, app: str, name: str, step: Callable[[str], None], end: float = 0.0) -> dict[str, Any]:
    """Hash a slot's files and try its payloads: {"ok", "code", "why", "members", "payloads": [...]}.

    `step` is told what comes next; `end`, on time.monotonic's clock, is when a payload's process ends (0: never).

    Raises TrustError where the slot or a file is not what was installed.
    """
    state = state_.read(state_.app_folder(root, app), app)
    slot = active.slot(root, app, state, name)
    ready.manifest(slot.folder, slot.info["identity"])
    for member, (digest, _) in slot.store.items():
        step(f"hashing {member}")
        verify(slot, member, digest)
    tried = []
    for entry in slot.manifest["payloads"]:
        step(f"trying {entry['id']}")
        tried.append({"payload": entry["id"], **_apart(partial(_try, slot, entry), end)})
    _record(slot, tried)
    bad = next((result for result in tried if result["result"] == "failed"), None)
    if bad is not None:
        return {"ok": False, "code": bad["code"], "why": f"{bad['payload']}: {bad['why']}", "payloads": tried}
    if not any(result["result"] in ("passed", "loaded") for result in tried):
        why = "; ".join(f"{result['payload']}: {result['why']}" for result in tried)
        return {"ok": False, "code": "E701", "why": f"no payload can be used here: {why}", "payloads": tried}
    return {"ok": True, "code": "", "why": "", "members": len(slot.store), "payloads": tried}


def verify(slot: active.Slot, member: str, digest: str) -> None:
    """Raise TrustError (E508) where a member's file is not what its name says."""
    from edgec_runtime.errors import TrustError

    path = slot.path(member)
    if store.sha256(path) != digest:
        raise TrustError(
            f"the file of {member!r} in the store is damaged",
            f"{path} does not have the SHA-256 of its name",
            "install the bundle again",
            code="E508",
        )


def _apart(work: Callable[[], dict[str, Any]], end: float = 0.0) -> dict[str, Any]:
    """What `work` returns in a forked process; a result "failed" (E705) where that process dies."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(out)
            signal.alarm(_left(end))
            for number in (1, 2):  # an engine's words are not ours
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            if "faulthandler" in sys.modules:
                sys.modules["faulthandler"].disable()
            with os.fdopen(into, "wb") as pipe:
                pipe.write(json.dumps(work()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        said = pipe.read(MAX_ANSWER)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return {"result": "failed", "code": "E705", "why": f"its engine died: {contained.died(os.WTERMSIG(status))}"}
    try:
        result = json.loads(said)
    except ValueError:
        return {"result": "failed", "code": "E705", "why": "its engine ended the process without a word"}
    return dict(result)


def _try(slot: active.Slot, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Load a payload, run its golden inputs, time it. In a process of its own."""
    from edgec_runtime.model import choose

    found: list[Any] = []
    before = _status("VmRSS")
    try:
        model = choose(
            slot.manifest, slot.payload, {}, trusted=True, payload=entry["id"],
            check=lambda _, model, engine: found.append(engine),
        )  # fmt: skip
    except Error as error:
        why = (error.why or error.what).partition(f"{entry['id']}: ")
        return {"result": "skipped", "why": (why[2] or why[0])[:600]}
    with model:
        try:
            answers = _answers(slot, entry, model)
        except GoldenError as error:
            return {"result": "failed", "code": "E702", "why": f"{error.what}: {error.why}"[:600]}
        except Error as error:
            return {"result": "failed", "code": "E701", "why": f"{error.what}: {error.why}"[:600]}
        peak = max(0, _status("VmHWM") - before)
        library = found[0].library() if found else None
        marks = {"library": [library.sha256(), library.stamp()]} if library is not None else {}
        return {**answers, **marks, "memory": peak}


def _answers(slot: active.Slot, entry: Mapping[str, Any], model: Any) -> dict[str, Any]:
    from edgec_runtime import golden
    from edgec_runtime.bundle import tensors

    inputs, expected = slot.manifest["golden"]["inputs"], entry["golden"]
    recorded = tensors.decode(_read(slot, inputs)) if inputs is not None else {}
    feeds = [golden.feed(sample) for sample in golden.samples(recorded)]
    result: dict[str, Any] = {"result": "loaded", "why": "it has no golden answers"}
    if feeds and expected is not None:
        value = golden.check(
            model.run, recorded, tensors.decode(_read(slot, expected["file"])), expected["min_sqnr_db"]
        )
        result = {"result": "passed", "sqnr_db": round(value, 2), "min_sqnr_db": expected["min_sqnr_db"]}
    if not feeds:
        from edgec_runtime.cli.bench_command import zeros

        try:
            feeds = [zeros(model.inputs)]
            model.run(feeds[0])
        except Error as error:  # zeros are no promise of the bundle's
            return {**result, "why": f"it has no golden inputs, and does not run on zeros: {error.what}"[:300]}
    return {**result, "latency_us": _latency(model.run, feeds[0])}


def _latency(run: Callable[[Any], Any], feed: Any) -> int:
    """Microseconds of a run, the median of a few; it has run before."""
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < RUNS and (not times or time.perf_counter() - begin < LONGEST):
        start = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - start)
    return max(1, round(sorted(times)[len(times) // 2] * 1e6))


def _record(slot: active.Slot, tried: list[dict[str, Any]]) -> None:
    """Keep which library gave which payload's answers (`slots.proven`)."""
    for result in tried:
        digest, stamp = result.pop("library", ("", ""))
        if digest and result["result"] in ("passed", "loaded"):
            slot.proven[result["payload"]] = (digest, stamp)
    if slot.proven:
        proven.write(slot)


def _read(slot: active.Slot, member: str) -> bytes:
    with open(slot.path(member), "rb") as file:
        return file.read()


def _status(label: str) -> int:
    """Bytes that /proc/self/status gives under a label; 0 where there is none."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(label.encode() + b":"):
                return int(line.split()[1]) * 1024
    return 0


def _left(end: float) -> int:
    """Whole seconds until then, for an alarm; 0 where there is no end."""
    return max(1, int(end - time.monotonic())) if end else 0


def _say(value: Mapping[str, Any]) -> None:
    os.write(1, b"\n" + json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
