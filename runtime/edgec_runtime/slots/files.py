"""Files that survive a power cut: written whole in `stage`, flushed, renamed to their place, the folder flushed too."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

TEMPORARY = ".tmp"  # how the names of unfinished files end
MARGIN = 1 << 20  # bytes left free on the disk, for the small files and the file system's own


def write_atomic(path: str, data: bytes, stage: str, mode: int = 0o644) -> None:
    """Replace a file's content: afterwards, and at each moment before, it is the old one or the new one."""

    def fill(file: int) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]

    place(path, fill, stage, mode)
    sync_folder(os.path.dirname(path))


def place(path: str, fill: Callable[[int], None], stage: str, mode: int = 0o444) -> None:
    """Write a new file in `stage` with `fill`, flush it, and rename it to `path` (on the same file system).

    The folder of `path` is not flushed: do that once, after several. On any error nothing is left behind.
    """
    # Not by the process id alone: threads share it, and so do containers that share this root.
    own = f"{os.getpid()}-{os.urandom(8).hex()}"
    temporary = os.path.join(stage, f".{os.path.basename(path)}.{own}{TEMPORARY}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        try:
            fill(file)
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sync_folder(path: str) -> None:
    """Make the renames in a folder last."""
    file = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def make_folders(path: str) -> None:
    """Create a folder and its parents, and make each of them last."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folders(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync_folder(parent)


def free_bytes(path: str) -> int:
    """Bytes that this user can still write on the file system of `path`, less a margin."""
    found = os.statvfs(path)
    return max(0, found.f_bavail * found.f_frsize - MARGIN)
