"""What this machine is, in the words of a board: read once, from the kernel and the C library."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def flags(cpuinfo: str) -> tuple[str, ...]:
    """CPU features that every core has, from the text of /proc/cpuinfo ("flags" on x86, "Features" on Arm), sorted."""
    common: set[str] | None = None
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found = set(value.split())
            common = found if common is None else common & found
    return tuple(sorted(common or ()))


def cpu_name(cpuinfo: str) -> str:
    """The processor's name as Linux gives it; empty on most Arm kernels."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return ""


def memory() -> int | None:
    """Physical memory in bytes, or the container's limit (cgroup v2) where that is lower; None where unknown."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):
        return total
    return min(total, limit)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """The fields of `Board` that describe this machine."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    library, library_version = platform.libc_ver()
    release = platform.freedesktop_os_release() if Path("/etc/os-release").exists() else {}
    return {
        "arch": platform.machine(),
        "isa": flags(text),
        "cpu": cpu_name(text),
        "cores": cores(),
        "memory": memory(),
        "os": release.get("PRETTY_NAME", platform.system()),
        "glibc": library_version if library == "glibc" else "",
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
