"""What this machine is: architecture, instruction set, memory.

Read from the kernel, and cheaply: this is on the way to a first answer.
"""

from __future__ import annotations

import os

CPUINFO = "/proc/cpuinfo"
MEMINFO = "/proc/meminfo"


class Machine:
    """A machine as the choice of a payload sees it.

    Attributes:
        arch: as `platform.machine()` says, e.g. "x86_64", "aarch64".
        isa: the CPU features, as Linux names them in /proc/cpuinfo; empty where it does not say.
        memory: bytes that a process can still get without swapping; None where unknown.
    """

    __slots__ = ("arch", "isa", "memory")

    def __init__(self, arch: str, isa: frozenset[str], memory: int | None) -> None:
        self.arch = arch
        self.isa = isa
        self.memory = memory

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {"arch": self.arch, "isa": sorted(self.isa), "memory": self.memory}


def this(cpuinfo: str = CPUINFO, meminfo: str = MEMINFO) -> Machine:
    """This machine."""
    return Machine(os.uname().machine, _isa(cpuinfo), _available(meminfo))


def _isa(path: str) -> frozenset[str]:
    """The features of the first processor; the kernel lists those that all cores share."""
    for line in _lines(path, 16384):
        label, _, value = line.partition(":")
        if label.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _available(path: str) -> int | None:
    for line in _lines(path, 4096):
        if line.startswith("MemAvailable:"):
            number = line.split()[1]
            return int(number) * 1024 if number.isdigit() else None
    return None


def _lines(path: str, limit: int) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
