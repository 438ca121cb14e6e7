"""Archives in cpio's "newc" format, for the kernel's initramfs: what Debian's cpio would write, without having it.

Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. Everything in it belongs to root, whoever
makes it, and has no date: the same files give the same bytes. The kernel unpacks several archives one after another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_FOLDER, _FILE, _LINK = 0o040000, 0o100000, 0o120000


@dataclass(frozen=True)
class Entry:
    """One file: its bytes (a link's target, as bytes) and its mode with the file type."""

    data: bytes
    mode: int


def file(data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(data, _FILE | mode)


def link(target: str) -> Entry:
    """A symbolic link."""
    return Entry(target.encode(), _LINK | 0o777)


def archive(entries: Mapping[str, Entry]) -> bytes:
    """An archive of these paths ("bin/busybox"); folders come by themselves. Raises ValueError for an absolute path."""
    folders: dict[str, Entry] = {}
    for path in entries:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} is no path inside an archive")
        parts = path.split("/")[:-1]
        folders |= {"/".join(parts[: n + 1]): Entry(b"", _FOLDER | 0o755) for n in range(len(parts))}
    out = bytearray()
    everything = {**folders, **entries}
    for number, path in enumerate(sorted(everything), 1):
        out += _record(number, path, everything[path])
    out += _record(0, "TRAILER!!!", Entry(b"", 0))
    return bytes(out) + b"\0" * (-len(out) % 512)


def _record(inode: int, path: str, entry: Entry) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if entry.mode & 0o170000 == _FOLDER else 1
    # inode, mode, uid, gid, links, mtime, size, device ×2, node's device ×2, name's length, checksum (unused)
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % n for n in numbers) + name
    return head + b"\0" * (-len(head) % 4) + entry.data + b"\0" * (-len(entry.data) % 4)
