"""Bad luck that goes on: reboots in every trial, disks that really fill up or go read-only. In a process of its own.

python -m tests.flash.kill_more loops|full|read-only     prints JSON: {"cases": n, "problems": {…}}
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgec_runtime.errors import Error
from edgec_runtime.slots import files
from edgec_toolchains.crashlab import mounts
from tests.flash.crash_device import Boot, Device, in_process, wrong
from tests.flash.crash_programs import is_clean, left_on_trial, version, with_versions
from tests.flash.kill_faults import Luck

TRIES = 3
REBOOTS = 9
READ_ONLY, REMOUNT = 1, 32  # MS_RDONLY, MS_REMOUNT


def loops(folder: Path) -> dict[str, Any]:
    """Killed before the same call in every recovery, a reboot after each: decided after as many as there are tries.

    Where it dies before the try was counted nothing can have been decided; then the version is still on trial, and is
    accepted once the device stays up.
    """
    problems, cases = {}, 0
    before, top = folder / "before", folder / "now"
    left_on_trial(2)(Device(before))
    with Boot() as boots:
        for at in range(100):
            shutil.copytree(before, top)
            device, deaths = Device(top), 0
            for _ in range(REBOOTS):
                boots.again()
                if not _dies(device, at):
                    break
                deaths += 1
            if deaths == 0:
                shutil.rmtree(top)
                break
            cases += 1
            state = device.state()
            counted = state.phase != "trial" or state.tries < TRIES
            if counted and state.phase == "trial" and deaths == REBOOTS:
                problems[f"call {at}"] = f"after {deaths} reboots it is on trial still"
            device.recover()
            current = device.current()
            if found := wrong(device):
                problems[f"call {at}"] = found
            elif current not in (1, 2) or (deaths == REBOOTS and not counted and current != 2):
                problems[f"call {at}"] = f"version {current} after {deaths} reboots"
            elif current == 1 and not device.status()["why"]:
                problems[f"call {at}"] = "the status does not say why"
            shutil.rmtree(top)
        problems |= _in_the_engine(before, top, boots)
    return {"cases": cases + 1, "problems": problems}


def _dies(device: Device, at: int) -> bool:
    """Whether recovery comes as far as its call number `at`, which kills it."""
    child = os.fork()
    if child == 0:
        luck = Luck(str(device.root), "killed", at)
        luck.begin()
        device.recover()
        os._exit(0)
    return os.waitpid(child, 0)[1] != 0


def _in_the_engine(before: Path, top: Path, boots: Boot) -> dict[str, str]:
    """A version whose check takes the whole device down, each time: the old one is back after `TRIES` reboots."""
    from edgec_runtime.slots import health

    shutil.copytree(before, top)
    device, kept, deaths = Device(top), health.check, 0
    while deaths < REBOOTS:
        boots.again()
        child = os.fork()
        if child == 0:
            health.check = lambda *a, **k: os.kill(os.getpid(), 9)
            device.recover()
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        deaths += 1
        if device.current() != 1:
            return {"the engine": f"version {device.current()} is loaded after {deaths} reboots"}
    health.check = kept
    if deaths != TRIES or device.current() != 1 or "went down" not in device.status()["why"]:
        return {"the engine": f"{deaths} reboots, version {device.current()}, {device.status()['why']!r}"}
    return {"the engine": found} if (found := wrong(device)) else {}


def full(folder: Path) -> dict[str, Any]:
    """Updates on tmpfs of every size from what the old version takes up: refused or done, then done with more room."""
    problems, cases, done = {}, 0, 0
    before, top = folder / "before", folder / "now"
    with_versions(1)(Device(before))
    files.free_bytes = lambda path: 1 << 40  # or the check before would refuse all of them
    top.mkdir()
    pages = 8
    while done < 2:
        mounts.mount("none", top, "tmpfs", f"size={pages * 4}k")
        try:
            device = Device(top / "edgec")
            try:
                shutil.copytree(before, device.root)
            except (OSError, shutil.Error):
                pages += 4
                continue
            cases += 1
            with Boot() as boots:
                found = _filling(device, boots, lambda: mounts.mount("none", top, "tmpfs", "size=4m", flags=REMOUNT))
            if found == "done":
                done += 1
            elif found:
                problems[f"{pages * 4} KiB"] = found
        finally:
            mounts.unmount(top)
        pages += 1
    return {"cases": cases, "problems": problems}


def _filling(device: Device, boots: Boot, more_room: Callable[[], None]) -> str:
    """What is wrong; "done" where there was room for all of it."""
    refused = ""
    try:
        device.install(version(2))
    except Error as error:
        refused = error.code
        if error.code != "E906":
            return f"{error}"
    if device.current() not in ((1, 2) if refused else (2,)):
        return f"version {device.current()} on the full disk"
    boots.again()
    if refused:
        with_error(device.recover)
        if device.current() not in (1, 2):
            return f"version {device.current()} after recovery on the full disk"
        more_room()
    device.recover()
    if found := wrong(device):
        return found
    device.install(version(2))
    if device.current() != 2:
        return f"version {device.current()} once there is room"
    return is_clean(device) or ("" if refused else "done")


def with_error(call: Callable[[], Any]) -> str:
    """The code of the error that a call raises; empty where it raises none."""
    try:
        call()
    except Error as error:
        return error.code
    return ""


def read_only(folder: Path) -> dict[str, Any]:
    """A root that is mounted read-only: everything that reads works, everything that writes says so, nothing breaks."""
    problems: dict[str, str] = {}
    folder.mkdir(exist_ok=True)
    mounts.mount("none", folder, "tmpfs", "size=4m")
    device = Device(folder / "edgec")
    with Boot() as boots:
        with_versions(1, 2)(device)
        device.transfer(version(3))
        with _read_only(folder):
            calls = {
                "begin": lambda: device.transfer(version(4)), "trial": device.trial, "rollback": device.rollback,
                "remove": device.remove,
            }  # fmt: skip
            for name, call in calls.items():
                if (code := with_error(call)) not in ("E201", "E202"):
                    problems[name] = f"error {code!r}"
            boots.again()
            outcomes = device.recover()
            if [outcome.result for outcome in outcomes] != ["damaged"] or outcomes[0].code != "E201":
                problems["recover"] = str(outcomes)
            if device.current() != 2 or device.status()["version"] != "2.0.0":
                problems["load"] = f"version {device.current()}, status {device.status()['version']}"
        device.recover()
        if device.current() != 3 or wrong(device):
            problems["afterwards"] = f"version {device.current()} {wrong(device)}"
    mounts.unmount(folder)
    return {"cases": 6, "problems": problems}


@contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    mounts.mount("none", folder, "tmpfs", flags=READ_ONLY | REMOUNT)
    try:
        yield
    finally:
        mounts.mount("none", folder, "tmpfs", flags=REMOUNT)


if __name__ == "__main__":
    if sys.argv[1] != "loops":
        mounts.isolate()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name, in_process():
        print(json.dumps({"loops": loops, "full": full, "read-only": read_only}[sys.argv[1]](Path(name) / "device")))
