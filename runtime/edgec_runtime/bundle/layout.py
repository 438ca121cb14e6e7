"""Where every byte of a `.edge` file must be: one function that the writer and the reader share.

A bundle is a ZIP file whose bytes are wholly determined by its manifest envelope and its members: stored, in the
manifest's order, no timestamps, no comments, no gaps. `skeleton` computes everything that is not member data, so
the writer writes it and the reader compares it byte for byte: a central directory that disagrees, a duplicate
name, a gap, trailing bytes or a compressed member can't pass.

Layout (PKWARE APPNOTE 6.3.10, sections 4.3.7, 4.3.12, 4.3.14-16):

    0      local header of `manifest.dsse`, padded by an extra field so that its data starts at byte 64
    64     the envelope
    base   first multiple of 64 at or after the envelope's end (the ZIP padding in between belongs to the next header)
    ...    for each member: local header, padded so that the data starts at `base + offset`, a multiple of 64
    end    central directory, ZIP64 records where needed, end record

`offset` is relative to `base`, so that signing again (a longer envelope) moves the members but not the manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

ALIGN = 64
MANIFEST = "manifest.dsse"
MAX_MANIFEST = 1 << 20  # bytes of canonical JSON (design §4)
MAX_ENVELOPE = 1_600_000  # the manifest in base64, and up to a hundred signatures
MAX_MEMBERS = 4096
SEALED_CHUNK, SEALED_TAG = 65536, 16  # bytes: of plaintext in a chunk of a sealed member, and of its tag
MAX_NAME = 255
LIMIT32 = 0xFFFFFFFF
PAD_ID = 0x4445  # "ED": our padding extra field
ZIP64_ID = 0x0001
LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END64 = struct.Struct("<4sQ2H2I4Q")
LOCATOR64 = struct.Struct("<4sIQI")
END = struct.Struct("<4s4H2IH")
DOS_DATE = 0x21  # 1980-01-01: a bundle has no dates
UTF8 = 0x0800


def sealed_size(size: int) -> int:
    """Bytes of a sealed member (`edgec_runtime.sealed.chunks`) whose plaintext has so many."""
    return size + SEALED_TAG * max(1, -(-size // SEALED_CHUNK))


class Member(NamedTuple):
    """A member as the manifest names it. `offset` is relative to the base, in bytes, a multiple of 64."""

    name: str
    size: int
    offset: int


class Piece(NamedTuple):
    """Bytes that must stand at an absolute position of the file."""

    position: int
    data: bytes


def up(position: int) -> int:
    """The first multiple of `ALIGN` at or after position."""
    return -(-position // ALIGN) * ALIGN


def base(envelope_size: int) -> int:
    """Absolute position that the manifest's offsets count from."""
    return ALIGN + up(envelope_size)


def place(sizes: Sequence[tuple[str, int]]) -> list[Member]:
    """Give each (name, size) its offset: as low as its local header allows. The envelope's size does not matter."""
    members, end = [], 0
    for name, size in sizes:
        # The smallest local header: 30 bytes, the name, a padding field of at least 4 bytes, ZIP64 sizes if needed.
        offset = up(end + LOCAL.size + len(name.encode()) + 4 + (20 if size >= LIMIT32 else 0))
        members.append(Member(name, size, offset))
        end = offset + size
    return members


def file_size(envelope_size: int, members: Sequence[Member]) -> int:
    """The size of the whole file in bytes."""
    last = skeleton(envelope_size, members, [0] * (len(members) + 1))[-1]
    return last.position + len(last.data)


def skeleton(envelope_size: int, members: Sequence[Member], crcs: Sequence[int]) -> list[Piece]:
    """Everything but the data: one local header for the manifest and for each member, then the end of the archive.

    `crcs` holds the CRC-32 of the envelope and of each member, in order. Raises ValueError where the members can't
    be laid out as they say (offset not as `place` gives it).
    """
    if list(members) != place([(m.name, m.size) for m in members]):
        raise ValueError("the members' offsets are not the ones this format gives")
    start = base(envelope_size)
    pieces, central = [], []
    end = 0
    everything = [(MANIFEST, envelope_size, ALIGN)] + [(m.name, m.size, start + m.offset) for m in members]
    for (name, size, position), crc in zip(everything, crcs):
        raw = name.encode()
        big = size >= LIMIT32
        zip64 = struct.pack("<2H2Q", ZIP64_ID, 16, size, size) if big else b""
        pad = position - end - LOCAL.size - len(raw) - len(zip64) - 4
        extra = zip64 + struct.pack("<2H", PAD_ID, pad) + bytes(pad)
        short = LIMIT32 if big else size
        version = 45 if big else 20
        header = LOCAL.pack(b"PK\3\4", version, UTF8, 0, 0, DOS_DATE, crc, short, short, len(raw), len(extra))
        pieces.append(Piece(end, header + raw + extra))
        far = end >= LIMIT32
        wide = (struct.pack("<2Q", size, size) if big else b"") + (struct.pack("<Q", end) if far else b"")
        if wide:
            wide = struct.pack("<2H", ZIP64_ID, len(wide)) + wide
        central.append(
            CENTRAL.pack(
                b"PK\1\2", 45 if wide else 20, 45 if wide else 20, UTF8, 0, 0, DOS_DATE, crc, short, short,
                len(raw), len(wide), 0, 0, 0, 0, LIMIT32 if far else end,
            ) + raw + wide
        )  # fmt: skip
        end = position + size
    directory = b"".join(central)
    count = len(central)
    tail = directory
    if end >= LIMIT32:
        tail += END64.pack(b"PK\6\6", END64.size - 12, 45, 45, 0, 0, count, count, len(directory), end)
        tail += LOCATOR64.pack(b"PK\6\7", 0, end + len(directory), 1)
    tail += END.pack(b"PK\5\6", 0, 0, count, count, len(directory), min(end, LIMIT32), 0)
    pieces.append(Piece(end, tail))
    return pieces
