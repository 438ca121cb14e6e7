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
    found = _field(path, b"Features", 16384) or _field(path, b"flags", 16384)  # Arm first: it has the slower cores
    return frozenset(found.partition(":")[2].split())


def _available(path: str) -> int | None:
    """The least of what the machine has, and what this process' own limit and its control group leave."""
    found = [_number(path, b"MemAvailable:", 1024), _address_space(), _group()]
    return min((number for number in found if number is not None), default=None)


def _address_space() -> int | None:
    """What `ulimit -v` leaves; None where there is no such limit."""
    limit = _number(LIMITS, b"Max address space", 1)
    used = _number(SIZES, b"", os.sysconf("SC_PAGE_SIZE")) if limit is not None else None
    return None if limit is None or used is None else max(0, limit - used)


def _group() -> int | None:
    """What the control group leaves, caches aside, which the kernel gives up; None where it has no limit."""
    path = _field(GROUP, b"0::/")
    limit = _number(f"{GROUPS}/{path}/memory.max", b"", 1)
    if limit is None:
        return None
    return max(0, limit - (_number(f"{GROUPS}/{path}/memory.stat", b"anon ", 1) or 0))


def _number(path: str, label: bytes, unit: int) -> int | None:
    """The number that follows a label at a line's start, in a file of the kernel's; None where there is none."""
    words = _field(path, label).split()
    return int(words[0]) * unit if words and words[0].isdigit() else None


def _field(path: str, label: bytes, limit: int = 4096) -> str:
    """What follows a label at a line's start, to the line's end, in a file's first bytes; empty where there is none.

    Without io's files and lines: this is on the way to a first answer.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):  # AttributeError: Windows has no O_CLOEXEC
        return ""
    try:
        data = os.read(file, limit)
    except OSError:
        return ""
    finally:
        os.close(file)
    start = 0 if data.startswith(label) else data.find(b"\n" + label) + 1
    if not start and not data.startswith(label):
        return ""
    end = data.find(b"\n", start)
    return data[start + len(label) : end if end >= 0 else len(data)].decode("utf-8", "replace")
