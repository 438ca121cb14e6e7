"""Finding an engine's shared library without importing anything of the engine's Python package.

Looked for, in this order: where an environment variable says; in `edgec_runtime/lib` (a self-contained wheel puts it
there); in the package's folder wherever pip installed it, on `sys.path`. Nothing is loaded here.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Callable

BESIDE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "lib")


LOADED: dict[str, str] = {}  # path -> stamp of the library that this process loaded from there: it keeps that one


class Library:
    """A shared library on this machine.

    Attributes:
        path: the file.
        version: of the engine, as its package or its file's name says; empty where nothing says.
    """

    __slots__ = ("path", "version")

    def __init__(self, path: str, version: str) -> None:
        self.path = path
        self.version = version

    def stamp(self) -> str:
        """What changes when the file is replaced: its path, size and time of change. Cheap: nothing is read.

        Where this process has loaded it, that of the file it loaded.
        """
        return LOADED.get(self.path) or self._stamp()

    def _stamp(self) -> str:
        try:
            found = os.stat(self.path)
        except OSError:
            return ""
        return f"{self.path} {found.st_size} {found.st_mtime_ns}"

    def sha256(self) -> str:
        """The file's SHA-256 in hex; empty where it was replaced since this process loaded it."""
        if self.stamp() != self._stamp():
            return ""
        from hashlib import sha256

        hashed = sha256()
        with open(self.path, "rb") as file:
            for chunk in iter(lambda: file.read(1 << 20), b""):
                hashed.update(chunk)
        return hashed.hexdigest()


def find(
    names: Callable[[str], bool], *, variable: str, package: str, folder: str, distribution: str
) -> Library | None:
    """The first library that there is, or None.

    Args:
        names: whether a file's name is the library's.
        variable: environment variable that names the file itself; a name that is no file counts as no library.
        package: folder of the Python package that brings it.
        folder: folder inside the package ("" for its top).
        distribution: the package's name in its `.dist-info` folder, where the version stands.
    """
    named = os.environ.get(variable)
    if named is not None:
        return Library(os.path.abspath(named), _named_version(named)) if os.path.isfile(named) else None
    found = _in(BESIDE, names)
    if found:
        return Library(found, _named_version(found))
    for entry in sys.path:
        found = _in(os.path.join(entry or ".", package, folder), names)
        if found:
            return Library(os.path.abspath(found), _installed_version(entry or ".", distribution))
    return None


def cut_short(path: str) -> str:
    """Why the file at `path` can't be a whole shared library; empty where nothing speaks against it.

    Loading a library that is half written ends the process: its pages past the file's end are no memory (SIGBUS). The
    section headers stand at the end of a library as linkers write it, and its program headers say where its parts end
    (System V ABI, "Object Files").
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            header = file.read(64)

            def number(place: int, width: int, data: bytes = header) -> int:
                return int.from_bytes(data[place : place + width], "little")

            if len(header) < 64 or header[:4] != b"\x7fELF":
                return "it is no shared library"
            if header[4:6] != b"\x02\x01":  # only 64 bits, little-endian
                return ""
            ends = [number(40, 8) + number(58, 2) * number(60, 2)]
            step, count = number(54, 2), number(56, 2)
            file.seek(number(32, 8))
            table = file.read(step * count)
            ends += [number(at + 8, 8, table) + number(at + 32, 8, table) for at in range(0, step * count, step or 1)]
    except OSError as error:
        return str(error)
    whole = max(ends)
    return f"it is cut off: {size} of {whole} bytes are there" if size < whole else ""


def _in(folder: str, names: Callable[[str], bool]) -> str | None:
    try:
        there: Sequence[str] = sorted(os.listdir(folder), reverse=True)
    except OSError:
        return None
    fits = (name for name in there if names(name) and not name.endswith(".version"))
    return next((os.path.join(folder, name) for name in fits), None)


def _named_version(path: str) -> str:
    """From a file beside the library, LIBRARY.version, or from the name's end ("libonnxruntime.so.1.32.0")."""
    try:
        with open(f"{path}.version", encoding="ascii") as file:
            return file.read(64).strip()
    except (OSError, ValueError):
        tail = os.path.basename(path).partition(".so.")[2]
        return tail if tail[:1].isdigit() else ""


def _installed_version(entry: str, distribution: str) -> str:
    for name in os.listdir(entry):
        if name.startswith(distribution + "-") and name.endswith(".dist-info"):
            return name[len(distribution) + 1 : -len(".dist-info")]
    return ""
