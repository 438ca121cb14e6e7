"""Which boot this is, and how long it lasts: what deadlines are counted in. A wall clock may jump; this one can't."""

from __future__ import annotations

import time

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def boot_id() -> str:
    """The kernel's random id of this boot; "unknown" where there is none."""
    try:
        with open(BOOT_ID, encoding="ascii") as file:
            found = file.read(64).strip()
    except (OSError, ValueError):
        return "unknown"
    return found if found and all(c in "0123456789abcdef-" for c in found) else "unknown"


def now() -> float:
    """Seconds since the system started, those asleep included (CLOCK_BOOTTIME; CLOCK_MONOTONIC where it is not)."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
