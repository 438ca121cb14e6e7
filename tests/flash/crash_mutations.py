"""The device's protocol with one of its steps left out: what the laboratory must find, or it proves nothing."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any

from edgec_runtime.slots import files


@contextlib.contextmanager
def _fsync(wanted: Callable[[int], bool]) -> Iterator[None]:
    """os.fsync only of the descriptors whose mode is wanted."""
    real = os.fsync

    def fsync(file: Any) -> None:
        if wanted(os.fstat(file).st_mode):
            real(file)

    os.fsync = fsync
    try:
        yield
    finally:
        os.fsync = real


@contextlib.contextmanager
def _in_place() -> Iterator[None]:
    """Small files are written over where they are, and flushed; no other file, no rename.

    The journal commits whenever it likes, so it may between the truncation and the write: here it always does.
    """
    real = files.write_atomic

    def write(path: str, data: bytes, stage: str, mode: int = 0o644) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        os.fsync(file)
        os.write(file, data)
        os.fsync(file)
        os.close(file)
        files.sync_folder(os.path.dirname(path))

    files.write_atomic = write
    try:
        yield
    finally:
        files.write_atomic = real


MUTATIONS: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "": contextlib.nullcontext,
    "files not flushed": lambda: _fsync(stat.S_ISDIR),
    "folders not flushed": lambda: _fsync(stat.S_ISREG),
    "written in place": _in_place,
}
