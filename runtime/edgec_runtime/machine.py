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
        glibc: the GNU C library's version, as "2.36"; empty where there is another (musl).
    """

    __slots__ = ("arch", "glibc", "isa", "memory")

    def __init__(self, arch: str, isa: frozenset[str], memory: int | None, glibc: str = "") -> None:
        self.arch = arch
        self.isa = isa
        self.memory = memory
        self.glibc = glibc

    def as_dict(self) -> dict[str, object]:
        """For `--json`."""
        return {"arch": self.arch, "isa": sorted(self.isa), "memory": self.memory, "glibc": self.glibc}


def this(cpuinfo: str = CPUINFO, meminfo: str = MEMINFO) -> Machine:
    """This machine."""
    return Machine(os.uname().machine, _isa(cpuinfo), _available(meminfo), glibc())


def glibc() -> str:
    """The version of the C library that this process runs on, "2.36"; empty where it is not GNU's."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):  # musl does not know this name; Windows has no confstr
        return ""
    return version if name == "glibc" else ""


def older(have: str, need: str) -> bool:
    """True where a version of numbers with dots is below another: ("2.4", "2.31")."""
    return [int(part) for part in have.split(".")] < [int(part) for part in need.split(".")]


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
