"""A login shell whose commands run on an emulated ARM core: BusyBox for the tools, Debian's Python as python3.

Each command is a small script that starts QEMU's user mode, so nothing of the kernel (binfmt) is asked. The core sees a
root of its own: its /proc/cpuinfo, a device tree that names the board, and the memory that it is said to have.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from edgec_runtime.errors import UnsupportedError
from edgec_toolchains.aarch64 import Core

_MEMINFO = "MemTotal: {total} kB\nMemFree: {free} kB\nMemAvailable: {free} kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"


def shell(folder: Path, core: Core, busybox: Path, *, model: str, memory: int, python: bool = True) -> tuple[Path, str]:
    """Make the commands of a board in `folder`; returns its login shell and its PATH.

    Args:
        folder: new.
        core: the emulated core.
        busybox: from `server.busybox`.
        model: what /proc/device-tree/model says, as "Raspberry Pi 4 Model B Rev 1.4".
        memory: bytes of the board.
        python: whether it has a Python.
    """
    root, tools = folder / "root", folder / "bin"
    tools.mkdir(parents=True)
    _root(root, core, model, memory)
    start = [
        "exec", "/usr/bin/env", f"LD_LIBRARY_PATH={core.bed.libraries}", f"EDGEC_PYTHON={tools / 'python3'}",
        str(core.bed.emulator), "-L", str(root),
        "-cpu", core.model.qemu, "-U", "LD_LIBRARY_PATH",
    ]  # fmt: skip
    listed = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.join(start)} {shlex.quote(str(busybox))} --list"], capture_output=True, text=True
    )
    if listed.returncode:
        raise UnsupportedError("BusyBox does not run on the emulated core", listed.stderr[-300:])
    for name in listed.stdout.split():
        if name not in ("busybox", "python3"):
            _script(tools / name, [*start, str(busybox), name])
    if python:
        _script(tools / "python3", [*start, str(core.bed.folder / "guest" / "usr" / "bin" / "python3.11")])
    login = folder / "shell"
    _script(login, [*start, str(busybox), "sh"])
    return login, str(tools)


def _script(path: Path, words: list[str]) -> None:
    path.write_text(f'#!/bin/sh\n{shlex.join(words)} "$@"\n')
    path.chmod(0o755)


def _root(root: Path, core: Core, model: str, memory: int) -> None:
    seen = core.bed.root(core.model.name)
    (root / "proc" / "device-tree").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_bytes((seen / "proc" / "cpuinfo").read_bytes())
    (root / "proc" / "device-tree" / "model").write_bytes(model.encode() + b"\0")
    (root / "proc" / "meminfo").write_text(_MEMINFO.format(total=memory // 1024, free=memory * 3 // 4 // 1024))
    for entry in seen.iterdir():
        if entry.name != "proc":
            (root / entry.name).symlink_to(os.path.realpath(entry))
