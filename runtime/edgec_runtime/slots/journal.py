"""What happened to an app on this device: lines of JSON in `apps/<name>/log`, bounded.

A line has the wall clock, which may be wrong, and the boot with its seconds, which are not. Writing it is never a
reason to fail: a full disk loses lines, not installations.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from edgec_runtime.slots import boot, files
from edgec_runtime.slots import state as state_

LIMIT = 256 << 10  # bytes; then the older half goes
LONGEST = 8 << 10  # bytes of a line


def note(root: str, app: str, event: str, **facts: Any) -> None:
    """Add a line. Nothing is raised."""
    seconds = time.time()
    record = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "boot": boot.boot_id()[:8],
        "up": round(boot.now(), 1),
        "event": event,
        **{name: value for name, value in facts.items() if value not in ("", None, {}, [])},
    }
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    if len(line) > LONGEST:
        line = json.dumps({**record, **dict.fromkeys(facts, "too long")}, separators=(",", ":")).encode() + b"\n"
    with contextlib.suppress(OSError):
        path = os.path.join(state_.app_folder(root, app), "log")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        file = os.open(path, flags, 0o644)
        try:
            os.write(file, line)
            size = os.fstat(file).st_size
        finally:
            os.close(file)
        if size > LIMIT:
            _halve(root, path)


def read(root: str, app: str, most: int = 0) -> list[dict[str, Any]]:
    """The lines, oldest first; the last `most` of them, all for 0. Lines that are damaged are left out.

    Raises MissingError for a name that can't be an app's.
    """
    path = os.path.join(state_.app_folder(root, app), "log")
    try:
        with open(path, "rb") as file:
            data = file.read(2 * LIMIT)
    except OSError:
        return []
    found = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict):
                found.append(record)
    return found[-most:] if most else found


def _halve(root: str, path: str) -> None:
    with open(path, "rb") as file:
        data = file.read(2 * LIMIT)
    half = data[len(data) // 2 :]
    files.write_atomic(path, half[half.find(b"\n") + 1 :], os.path.join(root, "stage"))
