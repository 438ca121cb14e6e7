"""Files that devices have, kept on this machine: what the next update's deltas are made against.

`$EDGEC_CACHE/members/<sha256>`, else in the user's cache folder; the longest unused go first when there is too much.
It is only a cache: a file that is missing or damaged costs bytes on the line, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

LIMIT = 2_000_000_000  # bytes
LEAST = 512  # bytes: what is smaller is sent whole


def folder() -> Path:
    """Where they are; it need not exist yet."""
    configured = os.environ.get("EDGEC_CACHE")
    if not configured:
        import platformdirs

        configured = platformdirs.user_cache_dir("edgec")
    return Path(configured) / "members"


def names() -> frozenset[str]:
    """The digests of what there is."""
    try:
        return frozenset(name for name in os.listdir(folder()) if len(name) == 64)
    except OSError:
        return frozenset()


def get(digest: str) -> bytes | None:
    """A file by its SHA-256, held against it; None where there is none. Using it keeps it."""
    path = folder() / digest
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            path.unlink()
            return None
        os.utime(path)
    except OSError:
        return None
    return data


def put(digest: str, data: bytes | memoryview, *, limit: int = LIMIT) -> None:
    """Keep a file; the longest unused give way. A cache that can't be written is none."""
    where = folder()
    path = where / digest
    if not LEAST <= len(data) <= limit // 4 or path.exists():
        return
    part = where / f".{digest}.{os.getpid()}"
    try:
        where.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
        trim(limit)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()


def trim(limit: int = LIMIT) -> None:
    """Remove the longest unused files until at most `limit` bytes are left."""
    found = []
    for entry in os.scandir(folder()):
        with contextlib.suppress(OSError):
            about = entry.stat()
            found.append((about.st_mtime_ns, about.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= limit:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)
            total -= size
