"""One scenario, over and over, each time with the same bad luck one call later; in a process of its own.

    python -m tests.flash.kill_run SCENARIO FAULT [MUTATION]
                                          prints JSON: {"cases": [names], "problems": {name: what is wrong}}

Each case is a copy of the device before, a forked process that runs the program and meets the fault, and the looks
that the crash laboratory takes: under the fault, after recovery, after a second one, and once it was done again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from edgec_runtime.errors import Error
from tests.flash.crash_device import Boot, Device, in_process
from tests.flash.crash_mutations import MUTATIONS
from tests.flash.crash_run import judge
from tests.flash.crash_scenarios import SCENARIOS, Scenario
from tests.flash.kill_faults import WRITES, Luck

MOST = 400  # cases: a program that never ends is not one
DONE, STOPPED, LEAKED = 0, 3, 4  # exit codes: finished, an Error was raised, something else was raised


def run(name: str, fault: str, mutation: str = "") -> dict[str, Any]:
    """All cases of a scenario and a fault."""
    scenario = SCENARIOS[name]
    problems: dict[str, str] = {}
    cases: list[str] = []
    scratch = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=scratch) as folder, Boot() as boots, in_process():
        before, top = Path(folder) / "before", Path(folder) / "now"
        scenario.prepare(Device(before / "edgec"))
        there = {Device(before / "edgec").current()}
        if scenario.restarted:
            boots.again()
            there.add(Device(before / "edgec").current())
        look = judge(scenario)
        for at in range(MOST):
            shutil.copytree(before, top, symlinks=True)
            boots.first()
            if scenario.restarted:
                boots.again()
            code, step, marks, said = _forked(scenario, Device(top / "edgec"), fault, at, mutation)
            if step is None:
                if code != DONE:
                    problems["without a fault"] = said
                break
            if fault == "torn" and step.partition(" ")[0] not in WRITES:
                shutil.rmtree(top)
                continue  # that is "killed"
            case = f"{name}: {fault}, {at}: {step}"
            cases.append(case)
            problem = said if code not in (DONE, STOPPED, -signal.SIGKILL) else ""
            if not problem and fault not in ("killed", "torn"):
                problem = _under(scenario, Device(top / "edgec"), there)
            if at % 2 == 0:
                boots.again()
            problem = problem or look(top, marks)
            if problem:
                problems[case] = problem
            shutil.rmtree(top)
        else:
            problems["all"] = f"it has not ended after {MOST} cases"
    return {"cases": cases, "problems": problems}


def _forked(
    scenario: Scenario, device: Device, fault: str, at: int, mutation: str
) -> tuple[int, str | None, tuple[str, ...], str]:
    """(how the process ended, the step that had the fault or None, what it had promised, what it said at its end)."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        os._exit(_child(scenario, device, fault, at, into, mutation))
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    status = os.waitpid(child, 0)[1]
    told = [line.partition(" ") for line in lines]
    marks = tuple(text for kind, _, text in told if kind == "mark")
    steps = [text for kind, _, text in told if kind == "step"]
    said = " ".join(text for kind, _, text in told if kind == "said")
    return os.waitstatus_to_exitcode(status), steps[0] if steps else None, marks, said


def _child(scenario: Scenario, device: Device, fault: str, at: int, into: int, mutation: str) -> int:
    real = os.write

    def tell(kind: str, text: str) -> None:
        real(into, f"{kind} {' '.join(text.split())}\n".encode())

    luck = _Telling(str(device.root), fault, at, tell)
    luck.begin()
    try:
        with MUTATIONS[mutation]():
            scenario.run(device, lambda text: tell("mark", text))
        return DONE
    except Error as error:
        tell("said", f"{error.code} {error}")
        return STOPPED
    except BaseException as error:
        import traceback

        tell("said", f"{type(error).__name__}: {error} {traceback.format_exc()[-600:]}")
        return LEAKED


class _Telling(Luck):
    """Says which step has the fault before it strikes."""

    def __init__(self, root: str, fault: str, at: int, tell: Any) -> None:
        super().__init__(root, fault, at)
        self._tell = tell

    def _strike(self, name: str, number: int, first: Any, rest: tuple[Any, ...]) -> None:
        if number == self.at:
            self._tell("step", self.steps[-1])
        super()._strike(name, number, first, rest)


def _under(scenario: Scenario, device: Device, before: set[int | None]) -> str:
    """What loads before anything was recovered: the fault may be there still, so nothing can be written."""
    luck = Luck(str(device.root), "read-only", 0)
    luck.begin()
    try:
        version = device.current()
    except (Error, AssertionError) as error:
        return f"under the fault: {error}"
    finally:
        luck.end()
    right = before.union(*scenario.allowed.values())
    return "" if version in right else f"under the fault: version {version}"


if __name__ == "__main__":
    print(json.dumps(run(*sys.argv[1:])))
