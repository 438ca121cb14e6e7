"""What a shared library asks of a machine: read from its ELF file, nothing is loaded.

The file's dynamic section names the libraries that it needs, and the versions of their symbols: the newest GLIBC_x.y
of these is the oldest C library that can load the file, whatever a wheel's name says (System V ABI, "Dynamic Linking";
Linux Standard Base, "Symbol Versioning"). Reading is bounded, and a damaged file is a ValueError.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from struct import unpack_from

MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}  # e_machine
MAX_TABLE = 1 << 20  # bytes of the dynamic section, or of the version needs
MAX_NAME = 512
LOAD, DYNAMIC = 1, 2  # p_type
NEEDED, STRTAB, STRSZ, SONAME, VERNEED, VERNEEDNUM = 1, 5, 10, 14, 0x6FFFFFFE, 0x6FFFFFFF  # d_tag


class Elf:
    """A shared library.

    Attributes:
        machine: as `platform.machine()` says for 64 bits ("aarch64", "x86_64"), else "arm", "i386", or a number.
        bits: 32 or 64.
        soname: its own name; empty where it has none.
        needed: names of the libraries that it loads.
        versions: library -> names of its symbols' versions, as "GLIBC_2.34".
    """

    __slots__ = ("bits", "machine", "needed", "soname", "versions")

    def __init__(
        self,
        machine: str,
        bits: int,
        soname: str = "",
        needed: tuple[str, ...] = (),
        versions: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        self.machine = machine
        self.bits = bits
        self.soname = soname
        self.needed = needed
        self.versions: Mapping[str, tuple[str, ...]] = versions or {}

    def floor(self, prefix: str = "GLIBC_") -> str:
        """The newest version that starts with `prefix`, without it: "2.34". Empty where it needs none.

        `GLIBCXX_` gives that of libstdc++. Versions that are no number (GLIBC_PRIVATE) don't count.
        """
        found = [number(name[len(prefix) :]) for names in self.versions.values() for name in names if _is(name, prefix)]
        return ".".join(str(part) for part in max(found)) if found else ""


def number(text: str) -> tuple[int, ...]:
    """ "2.34" -> (2, 34), for comparing. Raises ValueError."""
    return tuple(int(part) for part in text.split("."))


def read(source: str | os.PathLike[str] | bytes) -> Elf:
    """Read a library from a path or its bytes. Raises ValueError where it is no little-endian ELF file, OSError."""
    if isinstance(source, bytes):
        return _parse(source)
    import mmap

    with open(source, "rb") as file:
        if os.fstat(file.fileno()).st_size < 64:
            raise ValueError("it is no ELF file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(data)


def _parse(data: bytes | object) -> Elf:
    view = memoryview(data)  # type: ignore[arg-type]
    try:
        return _file(view)
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"its ELF structure is damaged: {error}") from None
    finally:
        view.release()


def _file(data: memoryview) -> Elf:
    if bytes(data[:4]) != b"\x7fELF" or data[4] not in (1, 2) or data[5] != 1:
        raise ValueError("it is no little-endian ELF file")
    wide = data[4] == 2
    machine = unpack_from("<H", data, 18)[0]
    if wide:
        table, size, count = unpack_from("<Q", data, 32)[0], *unpack_from("<HH", data, 54)
    else:
        table, size, count = unpack_from("<I", data, 28)[0], *unpack_from("<HH", data, 42)
    if size < (56 if wide else 32):
        raise ValueError("its program headers are damaged")
    loads, dynamic = [], None
    for index in range(count):
        place = table + index * size
        if wide:
            kind, offset, address, length = *unpack_from("<I", data, place), *_pick(data, "<QQQQ", place + 8)
        else:
            kind, offset, address, length = *unpack_from("<I", data, place), *_pick(data, "<IIII", place + 4)
        if kind == LOAD:
            loads.append((address, offset, length))
        elif kind == DYNAMIC:
            dynamic = (offset, min(length, MAX_TABLE))
    name = MACHINES.get(machine, str(machine))
    bits = 64 if wide else 32
    return _linked(data, loads, dynamic, name, bits) if dynamic else Elf(name, bits)


def _pick(data: memoryview, layout: str, place: int) -> tuple[int, int, int]:
    """Offset, address and length in the file of a program header, whose physical address nobody uses."""
    offset, address, _, length = unpack_from(layout, data, place)
    return offset, address, length


def _linked(
    data: memoryview, loads: list[tuple[int, int, int]], dynamic: tuple[int, int], machine: str, bits: int
) -> Elf:
    """Follow the dynamic section."""
    layout, step = ("<QQ", 16) if bits == 64 else ("<II", 8)
    tags: dict[int, int] = {}
    needed: list[int] = []
    for place in range(dynamic[0], dynamic[0] + dynamic[1] - step + 1, step):
        tag, value = unpack_from(layout, data, place)
        if tag == 0:
            break
        if tag == NEEDED:
            needed.append(value)
        else:
            tags[tag] = value

    def at(address: int) -> int:
        for start, offset, length in loads:
            if start <= address < start + length:
                return offset + address - start
        raise ValueError("its dynamic section points outside the file")

    strings = at(tags[STRTAB]) if STRTAB in tags else 0

    def text(offset: int) -> str:
        if offset >= tags.get(STRSZ, 0):
            raise ValueError("a name lies outside its table")
        raw = bytes(data[strings + offset : strings + offset + MAX_NAME])
        name, end, _ = raw.partition(b"\0")
        if not end:
            raise ValueError("a name has no end")
        return name.decode("utf-8")

    versions: dict[str, tuple[str, ...]] = {}
    place = at(tags[VERNEED]) if VERNEED in tags else 0
    left = MAX_TABLE // 16  # entries of all libraries together: their lists may overlap in a hostile file
    for _ in range(min(tags.get(VERNEEDNUM, 0), MAX_TABLE // 16) if place else 0):
        _, count, file, first, following = unpack_from("<HHIII", data, place)  # Elf_Verneed, the same in 32 bits
        left -= count
        if left < 0:
            raise ValueError("its list of versions is longer than its table")
        names, entry = [], place + first
        for _ in range(count):
            _, _, _, name, after = unpack_from("<IHHII", data, entry)  # Elf_Vernaux
            names.append(text(name))
            if not after:
                break
            entry += after
        versions[text(file)] = tuple(names)
        if not following:
            break
        place += following
    soname = text(tags[SONAME]) if SONAME in tags else ""
    return Elf(machine, bits, soname, tuple(text(offset) for offset in needed), versions)


def _is(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name[len(prefix) :].replace(".", "").isdigit()
