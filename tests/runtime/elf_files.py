"""Tiny ELF files for tests: as much of a shared library as its dynamic section needs."""

from __future__ import annotations

from struct import pack

ALL = {"libc.so.6": ("GLIBC_2.17", "GLIBC_2.34", "GLIBC_PRIVATE"), "libstdc++.so.6": ("GLIBCXX_3.4.30",)}


def library(machine=183, versions=None, soname="libtiny.so", bits=64):
    """The bytes of an ELF file that needs these versions of these libraries, and holds nothing."""
    versions = ALL if versions is None else versions
    strings = bytearray(b"\0")

    def name(text):
        place = len(strings)
        strings.extend(text.encode() + b"\0")
        return place

    needs = b""
    for index, (file, names) in enumerate(versions.items()):
        aux = b"".join(
            pack("<IHHII", 0, 0, 0, name(version), 16 if k + 1 < len(names) else 0) for k, version in enumerate(names)
        )
        following = 16 + len(aux) if index + 1 < len(versions) else 0
        needs += pack("<HHIII", 1, len(names), name(file), 16, following) + aux
    needed = [name(file) for file in versions]
    own = name(soname)
    wide = bits == 64
    head, header, pair = (64, 56, "<QQ") if wide else (52, 32, "<II")
    start = head + 2 * header
    dynamic_size = (len(needed) + 6) * (16 if wide else 8)
    verneed, table = start + dynamic_size, start + dynamic_size + len(needs)
    tags = [(1, place) for place in needed] + [
        (5, table), (10, len(strings)), (14, own), (0x6FFFFFFE, verneed), (0x6FFFFFFF, len(versions)), (0, 0),
    ]  # fmt: skip
    dynamic = b"".join(pack(pair, *tag) for tag in tags)
    size = table + len(strings)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    if wide:
        rest = pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, head, 0, 0, head, header, 2, 0, 0, 0)
        segments = pack("<IIQQQQQQ", 1, 5, 0, 0, 0, size, size, 4096) + pack(
            "<IIQQQQQQ", 2, 6, start, start, start, dynamic_size, dynamic_size, 8
        )
    else:
        rest = pack("<HHIIIIIHHHHHH", 3, machine, 1, 0, head, 0, 0, head, header, 2, 0, 0, 0)
        segments = pack("<IIIIIIII", 1, 0, 0, 0, size, size, 5, 4096) + pack(
            "<IIIIIIII", 2, start, start, start, dynamic_size, dynamic_size, 6, 4
        )
    return ident + rest + segments + dynamic + needs + bytes(strings)
