"""Locks of a device's root, each a file that the kernel unlocks when its holder dies.

    lock                guards the states of all apps; held for moments
    stage/lock          one transfer at a time, and the collection of the store
    apps/<name>/trial   held while a version is on trial

Taken in the order stage/lock, trial, lock. Never waited for in another order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from edgec_runtime.errors import BadInputError, Error, UsageError
from edgec_runtime.slots import files

WAIT = 10.0  # seconds to wait for another process


@contextlib.contextmanager
def locked(where: str) -> Iterator[None]:
    """Hold the root's lock. Raises UsageError where another process holds it for too long."""
    files.make_folders(where)
    held = acquire(os.path.join(where, "lock"), WAIT)
    if held is None:
        raise busy(where, f"its lock was held for {WAIT:.0f} seconds")
    try:
        yield
    finally:
        os.close(held)


def acquire(path: str, wait: float = 0.0) -> int | None:
    """Lock a file, which is made where it does not exist; None where another holds it after `wait` seconds.

    Closing the descriptor unlocks it. Raises OSError where it can't be opened.
    """
    import fcntl

    deadline = time.monotonic() + wait
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        os.close(file)
                        return None
                    time.sleep(0.02)
            if _still(path, file):
                return file
            os.close(file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(file)
            raise


def _still(path: str, file: int) -> bool:
    """Whether this is the file of that name: the app may have been removed while its lock was waited for.

    Else two processes would each hold "the" lock: one of the file that is gone, one of the file that came after.
    """
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """What the system says while something is written, as our errors: no room (E906), not allowed (E201)."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_room(where, str(error)) from None
        raise UsageError(
            f"can't write into {where}",
            str(error),
            "run it as the owner of that folder, or set EDGEC_ROOT to another",
            code="E201",
        ) from None


def busy(where: str, why: str) -> Error:
    """Another process is at work."""
    return UsageError(
        f"another edgec-rt is at work in {where}", why, "wait until it has ended, then try again", code="E202"
    )


def no_room(where: str, why: str) -> Error:
    """The disk is full, or would be."""
    return BadInputError(
        f"not enough room in {where}", why, "free some space; nothing was changed for the app", code="E906"
    )
