"""A process that dies, or a disk that fails, at a chosen call of the file system; the test itself goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

WRITES = ("open", "write", "pwrite", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir", "ftruncate", "fchmod")
FILLS = ("write", "pwrite", "mkdir", "fsync", "rename")  # what a full disk may refuse, besides creating a file


class PowerCutError(BaseException):
    """The process is gone: no handler of ours may catch it, and nothing that it does afterwards is done."""


class Calls:
    """How many there were."""

    made = 0
    dead = False


@contextmanager
def dying(at: int | None) -> Iterator[Calls]:
    """In this block the process dies before its call number `at` (None: never): that call and all later ones raise."""
    calls = Calls()

    def wrap(real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            if calls.dead or calls.made == at:
                calls.dead = True
                raise PowerCutError
            calls.made += 1
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(os, name, wrap(getattr(os, name)))
        yield calls


@contextmanager
def failing(at: int, number: int = errno.ENOSPC, *, for_good: bool) -> Iterator[Calls]:
    """In this block the write number `at` fails with an error of the system's, and with `for_good` all later ones."""
    calls = Calls()

    def wrap(name: str, real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            flags = args[1] if name == "open" and len(args) > 1 else 0
            creates = flags & os.O_CREAT and not os.path.exists(args[0])
            if number == errno.EROFS:
                creates = flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
            if name != "open" or creates:
                calls.made += 1
                if calls.made - 1 == at or (for_good and calls.made - 1 > at):
                    raise OSError(number, os.strerror(number))
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES if number == errno.EROFS else (*FILLS, "open"):
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        yield calls
