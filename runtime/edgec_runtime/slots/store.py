"""The store of verified members, named by their SHA-256: what is in it, whole or not, and who needs it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from edgec_runtime.slots.active import store_path

CHUNK = 1 << 20  # bytes
HEX = frozenset("0123456789abcdef")


def folder(root: str) -> str:
    """Where the members are."""
    return os.path.dirname(store_path(root, "-"))


def holds(root: str, digest: str, size: int) -> bool:
    """True if the store has this member, and it is whole: it is hashed."""
    path = store_path(root, digest)
    try:
        return os.stat(path).st_size == size and sha256(path) == digest
    except OSError:
        return False


def sha256(path: str) -> str:
    """SHA-256 (hex) of a file. Raises OSError."""
    from hashlib import sha256 as new

    hashed = new()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
    return hashed.hexdigest()


def is_digest(name: str) -> bool:
    """True for 64 hex digits."""
    return len(name) == 64 and HEX.issuperset(name)


def members(root: str) -> Iterator[tuple[str, int]]:
    """(digest, bytes) of each member that is in the store."""
    where = folder(root)
    for name in sorted(os.listdir(where)) if os.path.isdir(where) else ():
        if is_digest(name):
            yield name, os.lstat(os.path.join(where, name)).st_size
