"""What this machine is: architecture, instruction set, memory.

Read from the kernel, and cheaply: this is on the way to a first answer.
"""

from __future__ import annotations

import os

CPUINFO = "/proc/cpuinfo"
MEMINFO = "/proc/meminfo"
LIMITS, SIZES = "/proc/self/limits", "/proc/self/statm"
GROUP, GROUPS = "/proc/self/cgroup", "/sys/fs/cgroup"  # control groups, version 2: a container's, a service's


class Machine:
    """A machine as the choice of a payload sees it.

    Attributes:
        arch: as `platform.machine()` says, e.g. "x86_64", "aarch64".
        isa: the CPU features, as Linux names them in /proc/cpuinfo; empty where it does not say.
        memory: bytes that this process can still get without swapping, within its limits; None where unknown.
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
    """The least of what the machine has, and what this process' own limit and its control group leave."""
    found = [_number(path, "MemAvailable:", 1024), _address_space(), _group()]
    return min((number for number in found if number is not None), default=None)


def _address_space() -> int | None:
    """What `ulimit -v` leaves; None where there is no such limit."""
    limit = _number(LIMITS, "Max address space", 1)
    if limit is None:
        return None
    try:
        with open(SIZES, "rb") as file:
            return max(0, limit - int(file.read(64).split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError, IndexError):
        return None


def _group() -> int | None:
    """What the control group leaves, caches aside, which the kernel gives up; None where it has no limit."""
    for line in _lines(GROUP, 4096):
        if line.startswith("0::/"):
            folder = f"{GROUPS}{line[3:].rstrip('/')}"
            limit = _number(f"{folder}/memory.max", "", 1)
            if limit is not None:
                return max(0, limit - (_number(f"{folder}/memory.stat", "anon ", 1) or 0))
    return None


def _number(path: str, label: str, unit: int) -> int | None:
    """The number that follows a label at a line's start, in a file of the kernel's; None where there is none."""
    for line in _lines(path, 4096):
        if line.startswith(label):
            words = line[len(label) :].split()
            return int(words[0]) * unit if words and words[0].isdigit() else None
    return None


def _lines(path: str, limit: int) -> list[str]:
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
