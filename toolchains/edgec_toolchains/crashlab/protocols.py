"""Ways to replace a file, good and bad: what a laboratory must be able to tell apart, or it proves nothing.

streamed      written over in place, piece by piece, flushed at the end
no-fsync      a new file, renamed over the old one, never flushed
no-dir-fsync  a new file, flushed, renamed; the folder is not flushed
full          a new file, flushed, renamed, the folder flushed: the one that is right
"""

from __future__ import annotations

import hashlib
import os
import time
from functools import partial
from pathlib import Path

from edgec_toolchains.crashlab.lab import Mark, Workload

BAD = ("streamed", "no-fsync", "no-dir-fsync")
GOOD = "full"
VERSIONS = 2
SIZE = 48 << 10  # bytes of a version
PAUSE = 0.02  # seconds between two versions


def version(number: int) -> bytes:
    """A version's bytes: they say which it is and whether it is whole."""
    body = (b"%08d" % number) * (SIZE // 8)
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def workload(protocol: str) -> Workload:
    """Writes version 1, 2, …, each by this protocol, and marks each when it has been acknowledged."""
    return partial(_run, protocol)


def _run(protocol: str, top: Path, mark: Mark) -> None:
    for number in range(1, VERSIONS + 1):
        _replace(protocol, top, version(number))
        mark(str(number))
        time.sleep(PAUSE)
    if protocol == "no-fsync":
        _flush(top)  # as another program's flush would; or nothing at all would have come to the disk


def _replace(protocol: str, top: Path, data: bytes) -> None:
    current, new = top / "current", top / "new"
    if protocol == "streamed":
        with current.open("wb", buffering=0) as file:
            for start in range(0, len(data), 16 << 10):
                file.write(data[start : start + (16 << 10)])
                os.fsync(file.fileno())  # as the kernel does on its own within seconds: a transfer takes longer
        return
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        if protocol != "no-fsync":
            os.fsync(file.fileno())
    new.rename(current)
    if protocol == GOOD:
        _flush(top)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def judge(top: Path, marks: tuple[str, ...]) -> str:
    """Empty where the newest acknowledged version, or a newer one, is there whole."""
    promised = int(marks[-1]) if marks else 0
    try:
        data = (top / "current").read_bytes()
    except FileNotFoundError:
        return "no version is there" if promised else ""
    digest, _, body = data.partition(b"\n")
    if hashlib.sha256(body).hexdigest().encode() != digest or not body:
        return "a version is torn"
    return "" if int(body[:8]) >= promised else "an acknowledged version is lost"
