"""Is a version on trial well: asked in a child process, judged here.

every file hashed again                                                E708 where one is damaged
a payload that this machine can use, at least one                      E701
golden answers, of each payload that loads                             E702
time of a run at most SLOWER x the first accepted one here, + SLACK    E703
memory at most ROOMY x what the manifest says, + SPARE                 E704
no crash (E705), within the deadline (E706)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from edgec_runtime import interpreter
from edgec_runtime.slots import contained

SLOWER, SLACK = 3, 5000  # times; microseconds: a small model's time on a busy board
ROOMY, SPARE = 2, 128 << 20  # times; bytes: an engine's own (24 to 70 MB measured), which the manifest does not count
AGAIN = 2  # further checks where only the time was wrong: the board may have been busy
CHILD = (
    "import sys\nsys.path[:] = filter(None, sys.path)\n"
    "from edgec_runtime.slots.health_child import main\nsys.exit(main(sys.argv[1:]))"
)
MAX_OUTPUT = 1 << 20  # bytes


class Health(NamedTuple):
    """The result: whether it passed, else the code and the reason; what was found of each payload, for people and logs.

    `latency` is payload id -> microseconds of a run, to be remembered.
    """

    ok: bool
    code: str
    why: str
    facts: dict[str, Any]
    latency: dict[str, int]


def check(
    root: str, app: str, slot: str, *, deadline: float, first: Mapping[str, int], memory: Mapping[str, int | None]
) -> Health:
    """Check a slot of an app.

    Args:
        root, app, slot: which.
        deadline: seconds for all of it; then the child and its children are killed.
        first: payload id -> microseconds of its first accepted run on this device.
        memory: payload id -> bytes that the manifest says it takes; None where it says nothing.
    """
    import time

    end = time.monotonic() + deadline
    for turn in range(AGAIN + 1):
        health = judged(_asked(root, app, slot, end - time.monotonic()), first, memory)
        if health.code != "E703" or turn == AGAIN or time.monotonic() >= end:
            break
    return health


def judged(facts: Mapping[str, Any], first: Mapping[str, int], memory: Mapping[str, int | None]) -> Health:
    """What the child found, held against the limits for time and memory."""
    payloads, latency = facts.get("payloads", []), latency_of(facts)
    if not facts["ok"]:
        return Health(False, facts["code"], facts["why"], dict(facts), latency)
    for name, taken in latency.items():
        most = SLOWER * first[name] + SLACK if name in first else None
        if most is not None and taken > most:
            why = f"{name}: a run takes {taken / 1e3:.1f} ms; the first accepted one took {first[name] / 1e3:.1f} ms"
            most_ms = f"{SLOWER} times that and {SLACK / 1e3:.0f} ms are allowed"
            return _failed(facts, "E703", f"{why}, and {most_ms}", latency)
    for result in payloads:
        said, taken = memory.get(result["payload"]), result.get("memory", 0)
        if said and taken > ROOMY * said + SPARE:
            why = f"{result['payload']}: it took {taken / 1e6:.0f} MB of memory; its manifest says {said / 1e6:.0f} MB"
            return _failed(facts, "E704", f"{why}, and {ROOMY} times that and {SPARE >> 20} MiB are allowed", latency)
    return Health(True, "", "", dict(facts), latency)


def latency_of(facts: Mapping[str, Any]) -> dict[str, int]:
    """Payload id -> microseconds of a run, of what a check found."""
    return {result["payload"]: result["latency_us"] for result in facts.get("payloads", []) if "latency_us" in result}


def _failed(facts: Mapping[str, Any], code: str, why: str, latency: dict[str, int]) -> Health:
    return Health(False, code, why, {**facts, "ok": False, "code": code, "why": why}, latency)


def _asked(root: str, app: str, slot: str, seconds: float) -> dict[str, Any]:
    """What the child says; how it ended, where it said nothing."""
    seconds = max(0.1, seconds)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    argv = [interpreter.path(), "-c", CHILD, root, app, slot, str(seconds)]
    try:
        ended = contained.run(argv, env=env, timeout=seconds, keep=MAX_OUTPUT, stderr=False)
    except OSError as error:
        return {"ok": False, "code": "E712", "why": f"the health check could not be started: {error}"}
    step, found = "starting", None
    for line in ended.output.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # what an engine prints
        if isinstance(said, dict):
            step = said.get("step", step)
            found = said.get("health", found)
    if isinstance(found, dict) and ended.code == 0:
        return found
    if ended.timed_out:
        return {"ok": False, "code": "E706", "why": f"its health check was not done in {seconds:.0f} s: {step}"}
    return {"ok": False, "code": "E705", "why": f"its health check died while {step}: {ended.why() or 'no result'}"}
