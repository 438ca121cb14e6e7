"""A member on its way to the store: `stage/<digest>.part`, which outlives a lost link, hashed as it grows."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

SUFFIX = ".part"
CHUNK = 1 << 20  # bytes


class Part:
    """An open part. What lies under its name and is no plain file of our own is taken away first.

    Attributes:
        path: the file.
        have: bytes in it.
    """

    def __init__(self, stage: str, digest: str, size: int) -> None:
        """Open it; one that is longer than `size` starts anew. Raises OSError."""
        from hashlib import sha256

        self.path = path(stage, digest)
        clear_strange(self.path)
        # Where the power was cut between the flush and the rename of `place` it is read-only: only root could open it.
        with contextlib.suppress(FileNotFoundError):
            os.chmod(self.path, 0o600)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.have = os.fstat(self._file).st_size
        self._hash = sha256()
        self._hashed = 0
        if self.have > size:
            self.clear()

    def append(self, data: bytes | memoryview) -> None:
        """Write at the end. Raises OSError; `have` then says how far it came."""
        self._catch_up()
        rest = memoryview(data)
        while rest:
            done = os.pwrite(self._file, rest, self.have)
            self._hash.update(rest[:done])
            self.have += done
            self._hashed += done
            rest = rest[done:]

    def clear(self) -> None:
        """Empty it."""
        from hashlib import sha256

        os.ftruncate(self._file, 0)
        self.have = self._hashed = 0
        self._hash = sha256()

    def digest(self) -> str:
        """SHA-256 (hex) of what is in it."""
        self._catch_up()
        return self._hash.hexdigest()

    def place(self, target: str) -> None:
        """Flush it and rename it to its place, read-only. The folder is to be flushed by the caller."""
        os.fchmod(self._file, 0o444)
        os.fsync(self._file)
        os.rename(self.path, target)
        self.close()

    def remove(self) -> None:
        """Take it away."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self) -> None:
        """Close the file; it stays where it is."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _catch_up(self) -> None:
        """Hash what an earlier connection left."""
        while self._hashed < self.have:
            chunk = os.pread(self._file, min(CHUNK, self.have - self._hashed), self._hashed)
            if not chunk:
                raise OSError(f"{self.path} became shorter")
            self._hash.update(chunk)
            self._hashed += len(chunk)


def path(stage: str, digest: str) -> str:
    """Where the part of a member with this SHA-256 is."""
    return os.path.join(stage, digest + SUFFIX)


def length(stage: str, digest: str) -> int:
    """Bytes in a part, 0 where there is none that can be gone on with."""
    try:
        found = os.lstat(path(stage, digest))
    except OSError:
        return 0
    return found.st_size if _plain(found) else 0


def clear_strange(name: str) -> None:
    """Remove what is no plain file with one name: a link could lead a write elsewhere."""
    with contextlib.suppress(FileNotFoundError):
        found = os.lstat(name)
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name)
        elif not _plain(found):
            os.unlink(name)


def _plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
