"""What the laboratory finds of the good protocol and the bad ones."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from edgec_toolchains.crashlab import FILE_SYSTEMS, check, isolate, obstacle, protocols, record


def main() -> int:
    """Print a table; exit 1 where a bad protocol passes or the good one fails, 10 where the machine can't."""
    if why := obstacle():
        print(f"the crash laboratory can't run here: {why}", file=sys.stderr)
        return 10
    isolate()
    wrong = 0
    for file_system in FILE_SYSTEMS:
        for protocol in (*protocols.BAD, protocols.GOOD):
            with tempfile.TemporaryDirectory(dir=scratch()) as name:
                recording = record(Path(name), file_system, protocols.workload(protocol))
                verdict = check(recording, Path(name), protocols.judge)
            found = ", ".join(f"{why} {len(labels)}" for why, labels in sorted(verdict.problems.items()))
            print(f"{file_system.name:10} {protocol:13} {verdict.crashes:5} crash states  {found or 'none bad'}")
            wrong += (protocol == protocols.GOOD) == bool(verdict.bad)
    return 1 if wrong else 0


def scratch() -> str | None:
    """A folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
