"""Bad luck at every step: the calls that change the disk, counted and named, and what may happen at one of them.

killed      the process dies before the call (what it would have been after is what it is before the next one)
torn        it dies in the middle of a write: half of the bytes are there
full        from this call on the disk is full
broken      this call fails with EIO
read-only   from this call on nothing can be changed, as ext4 does after an error (errors=remount-ro)
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from typing import Any

FAULTS = ("killed", "torn", "full", "broken", "read-only")
_ON_PATH = ("mkdir", "rename", "replace", "rmdir", "unlink", "remove", "link", "symlink", "open", "chmod", "truncate")
_ON_FILE = ("write", "pwrite", "fsync", "fdatasync", "ftruncate", "fchmod")
_TAKES_ROOM = (
    "write",
    "pwrite",
    "mkdir",
    "open",
    "fsync",
    "rename",
)  # fsync: where room is only taken when it is flushed
WRITES = ("write", "pwrite")
_CREATES = os.O_CREAT | os.O_TRUNC


class Luck:
    """Counts the calls of this process that change files under `root`; the one of number `at` has the fault.

    Attributes:
        steps: the names of the calls so far, such as "rename state".
    """

    def __init__(self, root: str, fault: str = "", at: int = -1) -> None:
        self.root, self.fault, self.at = os.path.realpath(root), fault, at
        self.steps: list[str] = []
        self.real = {name: getattr(os, name) for name in (*_ON_PATH, *_ON_FILE)}

    def begin(self) -> None:
        """Replace the functions, for good: call it in a process that is to end."""
        for name in self.real:
            setattr(os, name, self._counted(name))

    def end(self) -> None:
        """Put them back."""
        for name, real in self.real.items():
            setattr(os, name, real)

    def _counted(self, name: str) -> Callable[..., Any]:
        real = self.real[name]

        def call(first: Any, *rest: Any, **named: Any) -> Any:
            if name == "open" and not (rest and rest[0] & _CREATES):
                return real(first, *rest, **named)
            path = self._path(first, named)
            if not path.startswith(self.root):
                return real(first, *rest, **named)
            number = len(self.steps)
            self.steps.append(f"{name} {role(path if name != 'rename' else os.fspath(rest[0]))}")
            self._strike(name, number, first, rest)
            return real(first, *rest, **named)

        return call

    def _path(self, first: Any, named: Any) -> str:
        if isinstance(first, int):
            return os.readlink(f"/proc/self/fd/{first}")
        path = os.fsdecode(first)
        if named.get("dir_fd") is not None:
            return os.path.join(os.readlink(f"/proc/self/fd/{named['dir_fd']}"), path)
        return os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)

    def _strike(self, name: str, number: int, first: Any, rest: tuple[Any, ...]) -> None:
        if number == self.at and self.fault in ("killed", "torn"):
            if self.fault == "torn" and name in WRITES:
                data = memoryview(rest[0])
                self.real[name](first, data[: len(data) // 2], *rest[1:])
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at and self.fault == "broken":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if number >= self.at >= 0 and self.fault == "full" and name in _TAKES_ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if number >= self.at >= 0 and self.fault == "read-only":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def role(path: str) -> str:
    """What a file is for, as a name for people."""
    name = os.path.basename(path)
    if name.endswith(".tmp"):
        name = "new " + re.sub(r"\.\d+\.tmp$", "", name).lstrip(".")
    if name.endswith(".part"):
        return "part"
    name = re.sub(r"[0-9a-f]{64}", "member", name)
    above = os.path.basename(os.path.dirname(path))
    return f"slot {name}" if above == "slots" else name
