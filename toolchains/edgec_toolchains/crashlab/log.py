"""What a disk was told, in order: writes, zeroed ranges, flushes, and the marks of whoever used it.

One record is a kind (u8), an offset (u64) and a length (u64), little-endian, then the data of a write or of a mark.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEAD = struct.Struct("<BQQ")
WRITE, ZERO, FLUSH, MARK = range(4)


@dataclass(frozen=True)
class Entry:
    """One thing that the disk was told. `data` is that of a write, or a mark's text; offset and size are in bytes."""

    kind: int
    offset: int
    size: int
    data: bytes = b""

    @property
    def text(self) -> str:
        """A mark's words."""
        return self.data.decode()


def read(path: Path) -> Iterator[Entry]:
    """The entries of a log. Raises ValueError where it is cut short."""
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            if len(head) < HEAD.size:
                raise ValueError(f"{path}: cut short")
            kind, offset, size = HEAD.unpack(head)
            data = file.read(size) if kind in (WRITE, MARK) else b""
            if kind in (WRITE, MARK) and len(data) < size:
                raise ValueError(f"{path}: cut short")
            yield Entry(kind, offset, size, data)
