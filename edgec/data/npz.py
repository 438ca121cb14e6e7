"""Reading .npz one sample at a time: never pickled, never more than one sample of a member in memory."""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from edgec.errors import BadInputError

# One sample over 1 GiB is not edge data; a header may claim anything, the allocation follows it.
MAX_SAMPLE = 1 << 30
# What zipfile, zlib, struct and numpy's header parser raise on damaged or unusual files.
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, TypeError, KeyError, IndexError),
    *(OverflowError, RuntimeError, SyntaxError, tokenize.TokenError),  # NotImplementedError is a RuntimeError
)


@dataclass(frozen=True)
class Member:
    """One array of an .npz: shape with the first axis, and whether it is stored column-major."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool


def members(path: Path) -> dict[str, Member]:
    """The arrays of an .npz by name, from their headers alone.

    Raises:
        BadInputError: not an .npz, damaged, or it holds Python objects (pickled).
    """
    with _open(path) as archive:
        result = {}
        for info in archive.infolist():
            if not info.filename.endswith(".npy"):
                continue
            name = info.filename.removesuffix(".npy")
            with _guard(path), archive.open(info) as stream:
                result[name] = _header(path, name, stream)
    if not result:
        raise BadInputError(f"{path} holds no array", "it has no .npy member", "write it with numpy.savez", code="E921")
    return result


def samples(path: Path, names: list[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield `{name: array[i]}` for i along the first axis, read as a stream.

    A column-major member can't be streamed and is read whole.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(_open(path))
        stack.enter_context(_guard(path))
        readers = {}
        for name in names:
            stream = stack.enter_context(archive.open(name + ".npy"))
            member = _header(path, name, stream)
            readers[name] = (_whole if member.fortran else _rows)(path, member, stream)
        yield from (dict(zip(names, row, strict=True)) for row in zip(*readers.values(), strict=True))


def arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Whole arrays by name (a folder's file is one feed)."""
    with _open(path) as archive, _guard(path):
        result = {}
        for name in names:
            with archive.open(name + ".npy") as stream:
                member = _header(path, name, stream)
                result[name] = _read(path, member, stream, member.shape)
        return result


def _rows(path: Path, member: Member, stream: IO[bytes]) -> Iterator[np.ndarray]:
    for _ in range(member.shape[0]):
        yield _read(path, member, stream, member.shape[1:])


def _whole(path: Path, member: Member, stream: IO[bytes]) -> Iterator[np.ndarray]:
    yield from _read(path, member, stream, member.shape[::-1]).T


def _read(path: Path, member: Member, stream: IO[bytes], shape: tuple[int, ...]) -> np.ndarray:
    size = math.prod(shape) * member.dtype.itemsize
    if size > MAX_SAMPLE:
        why = f"one sample would take {size:,} bytes, the limit is {MAX_SAMPLE:,}"
        raise BadInputError(f"array '{member.name}' of {path} is too large", why, "split it", code="E928")
    data = stream.read(size)
    if len(data) != size:
        why = f"its header promises {size} more bytes, {len(data)} are there"
        raise BadInputError(f"{path} is damaged", why, "write it again", code="E927")
    return np.frombuffer(data, member.dtype).reshape(shape)


def _header(path: Path, name: str, stream: IO[bytes]) -> Member:
    version = np.lib.format.read_magic(stream)
    reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if reader is None:
        why = f"array '{name}' is in format {version}"
        raise BadInputError(f"{path} can't be read", why, "write it with numpy.savez", code="E927")
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise BadInputError(
            f"array '{name}' of {path} is pickled",
            "opening it could run code hidden in it",
            "store plain numbers: numpy.savez(path, name=array)",
            code="E929",
        )
    return Member(name, dtype, shape, fortran and len(shape) > 1)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BadInputError(f"{path} is not there", "no such file", "check the path", code="E900") from None
    except _DAMAGED as problem:
        raise BadInputError(
            f"{path} can't be read as .npz", str(problem), "write it with numpy.savez", code="E927"
        ) from problem


class _guard:  # noqa: N801 - reads like a keyword
    """Turns what zipfile, zlib and numpy raise on damaged files into our error."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if isinstance(problem, _DAMAGED):
            raise BadInputError(f"{self.path} is damaged", f"{problem}", "write it again", code="E927") from problem
