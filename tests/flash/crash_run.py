"""One scenario in the crash laboratory, in a process of its own (it takes mounts of its own and replaces functions).

python -m tests.flash.crash_run SCENARIO FILE_SYSTEM [SUBSETS] [MUTATION]     prints JSON: what was found
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgec_runtime.errors import Error
from edgec_toolchains import crashlab
from tests.flash.crash_device import Boot, Device, in_process, wrong
from tests.flash.crash_mutations import MUTATIONS
from tests.flash.crash_programs import is_clean
from tests.flash.crash_scenarios import SCENARIOS, Scenario

DEPTHS: dict[str, dict[str, int]] = {
    "few": {"subsets": 1, "alone": 0}, "all": {"subsets": 3}, "child": {"subsets": 0, "alone": 0},
}  # fmt: skip


def judge(scenario: Scenario, boots: Boot | None = None) -> Callable[[Path, tuple[str, ...]], str]:
    """What is wrong after the crash and a recovery, and once the user did it again; empty where nothing is.

    With `boots` the device starts anew first.
    """

    def look(top: Path, marks: tuple[str, ...]) -> str:
        device = Device(top / "edgec")
        if boots is not None:
            boots.again()
        try:
            return _look(scenario, device, marks)
        except (Error, AssertionError, OSError, LookupError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    return look


def _look(scenario: Scenario, device: Device, marks: tuple[str, ...]) -> str:
    device.recover()
    if found := wrong(device):
        return f"after recovery: {found}"
    version, promise = device.current(), marks[-1] if marks else ""
    due = scenario.allowed[promise.partition(":")[0]]
    if version not in due:
        return f"after {promise or 'nothing promised'!r}: version {version}, not {due}"
    if found := scenario.also(device, marks):
        return f"after recovery: {found}"
    before = device.state().seq if version is not None else 0
    device.recover()
    if device.current() != version or (version is not None and device.state().seq != before):
        return "a second recovery changes something"
    scenario.again(device)
    if found := wrong(device):
        return f"done again: {found}"
    if device.current() not in scenario.end:
        return f"done again: version {device.current()}, not {scenario.end}"
    return is_clean(device)


def run(name: str, file_system: str, depth: str = "all", mutation: str = "", seed: str = "0") -> dict[str, Any]:
    """What the laboratory found of a scenario.

    `depth` is "few", "all", or "child": few, and the health check in a process of its own, as on a device.
    """
    scenario = SCENARIOS[name]
    kind = next(f for f in crashlab.FILE_SYSTEMS if f.name == file_system)
    start = sum(os.times()[:4])
    scratch = "/dev/shm" if Path("/dev/shm").is_dir() else None
    checked = contextlib.nullcontext() if depth == "child" else in_process()
    with tempfile.TemporaryDirectory(dir=scratch) as folder, Boot() as boots, checked:

        def workload(top: Path, mark: Callable[[str], None]) -> None:
            if scenario.restarted:
                boots.again()
            with MUTATIONS[mutation]():
                scenario.run(Device(top / "edgec"), mark)

        recording = crashlab.record(Path(folder), kind, workload, lambda top: scenario.prepare(Device(top / "edgec")))
        found = crashlab.check(recording, Path(folder), judge(scenario, boots), seed=int(seed), **DEPTHS[depth])
    return {
        "scenario": name, "file_system": file_system, "mutation": mutation, "crashes": found.crashes,
        "contents": found.contents, "bad": found.bad, "problems": found.problems,
        "cpu_s": round(sum(os.times()[:4]) - start, 2),
    }  # fmt: skip


def in_a_process(module: str, *arguments: str) -> dict[str, Any]:
    """What one of these modules prints; AssertionError where it fails."""
    command = [sys.executable, "-m", f"tests.flash.{module}", *arguments]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    crashlab.isolate()
    print(json.dumps(run(*sys.argv[1:])))
