"""A file or folder that is there whole or not at all: written beside its destination, flushed, renamed.

POSIX promises that rename replaces in one step, and that it lasts once the folder is flushed too. Whatever fails
(disk full, an error, Ctrl-C), nothing is left behind and the old file stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgec.errors import BadInputError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a new file and its temporary path beside `path`; renamed to `path` when the block ends well.

    Raises BadInputError for what the operating system refuses in the block (disk full, no permission, file too
    large), with `path` named, and for a path that holds something else than a file: renaming over a device or a pipe
    would put a file in its place.
    """
    if path.exists() and not path.is_file():
        raise BadInputError(
            f"{path} can't be written",
            "It is there, and it is no file: a folder, a device or a pipe.",
            "Name a file.",
            code="E910",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with _told(path):
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            with os.fdopen(fd, "wb") as file:
                yield file, temporary
                flush(file)
            os.replace(temporary, path)
            flush_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; renamed to `path` when the block ends well.

    `path` must not exist, or be an empty folder: rename(2) replaces that in one step and refuses another. Raises
    BadInputError as `replacing` does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        with _told(path):
            temporary.mkdir()
            yield temporary
            for folder, _, files in os.walk(temporary):
                for name in files:
                    with open(Path(folder, name), "rb") as file:
                        os.fsync(file.fileno())
                flush_folder(Path(folder))
            os.replace(temporary, path)
            flush_folder(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def flush(file: BinaryIO) -> None:
    """Everything written so far is on the disk when this returns."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """The folder's entries are on the disk when this returns; some systems (Windows) can't and need not."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise BadInputError(
            f"{path} can't be written",
            f"{e.strerror or e}; nothing was left behind.",
            "Free some space, or write to another disk." if full else "Choose a place that you may write to.",
            code="E910",
        ) from e
