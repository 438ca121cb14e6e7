"""Finished trials, kept across interruptions: a SQLite file keyed by what each trial was made of.

A key is the SHA-256 of everything that decides a trial's result: model, data, what was tried, options, the code, the
versions and features of what ran it. So a row never goes stale; it is only ever missing. The file survives power cuts
(WAL, synchronous FULL), takes several processes at once, and one that is damaged is set aside.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROWS = 200_000
"""Rows kept; the oldest go first (about 100 MB)."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS models (key TEXT PRIMARY KEY, content BLOB NOT NULL) STRICT;
"""


def default_path() -> Path:
    """`search.sqlite` in $EDGEC_CACHE, else in this user's cache folder."""
    import platformdirs

    return Path(os.environ.get("EDGEC_CACHE") or platformdirs.user_cache_dir("edgec")) / "search.sqlite"


def digest(what: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@cache
def code() -> str:
    """Digest of all that computes a trial: its rooms' source, versions of engine and numpy, this CPU's features."""
    from edgec_targets import machine

    hasher = hashlib.sha256()
    package = Path(__file__).parents[2]
    for path in sorted(p for room in ("quantize", "data") for p in (package / room).rglob("*.py")):
        hasher.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    facts = machine.facts()
    hasher.update(repr([version(n) for n in ("onnxruntime", "numpy", "onnx-ir")]).encode())
    hasher.update(repr((facts["arch"], facts["cpu"], sorted(facts["isa"]))).encode())
    return hasher.hexdigest()


class Store:
    """Trials by key, and the models of those that are still under way.

    Args:
        path: the file, made with its folder; None keeps everything in memory.
        tell: given a sentence when a file can't be used and another, or memory, takes its place.
    """

    def __init__(self, path: Path | None = None, tell: Callable[[str], None] = lambda text: None) -> None:
        self.path, self._tell = path, tell
        self._db = self._open()

    def get(self, key: str) -> Any:
        """The value of a finished trial; None where there is none."""
        row = self._row("SELECT value FROM trials WHERE key = ?", key)
        try:
            return None if row is None else json.loads(row[0])
        except ValueError:  # a damaged row is a missing one
            return None

    def put(self, key: str, kind: str, value: Any) -> None:
        """Keep a finished trial; on disk when this returns."""
        self._write("INSERT OR REPLACE INTO trials VALUES (?, ?, ?)", (key, kind, json.dumps(value)))

    def model(self, key: str) -> bytes | None:
        """The bytes that a trial made, while its search is under way."""
        row = self._row("SELECT content FROM models WHERE key = ?", key)
        return None if row is None else bytes(row[0])

    def put_model(self, key: str, content: bytes) -> None:
        """Keep what a trial made until `forget`."""
        self._write("INSERT OR REPLACE INTO models VALUES (?, ?)", (key, content))

    def forget(self, keys: list[str]) -> None:
        """Let go of models whose search is finished, and of the oldest rows where there are too many."""
        for key in keys:
            self._write("DELETE FROM models WHERE key = ?", (key,))
        self._write(
            "DELETE FROM trials WHERE rowid <= (SELECT rowid FROM trials ORDER BY rowid DESC LIMIT 1 OFFSET ?)", (ROWS,)
        )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _row(self, sql: str, key: str) -> Any:
        try:
            return self._db.execute(sql, (key,)).fetchone()
        except sqlite3.OperationalError:  # busy, disk: this row can be made again
            return None
        except sqlite3.DatabaseError as problem:
            self._replace(problem)
            return None

    def _write(self, sql: str, values: tuple[Any, ...]) -> None:
        try:
            with self._db:
                self._db.execute(sql, values)
        except sqlite3.OperationalError as problem:  # disk full, busy for a minute: the search itself goes on
            self._tell(f"a trial could not be kept ({problem}): an interrupted search would repeat it")
        except sqlite3.DatabaseError as problem:
            self._replace(problem)
            with self._db:
                self._db.execute(sql, values)

    def _open(self) -> sqlite3.Connection:
        if self.path is None:
            return _connect(":memory:")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(str(self.path))
        except (sqlite3.OperationalError, OSError) as problem:
            self._tell(f"{self.path} can't be used ({problem}): trials are kept in memory, an interruption loses them")
            self.path = None
            return _connect(":memory:")
        except sqlite3.DatabaseError as problem:
            return self._set_aside(problem)

    def _replace(self, problem: sqlite3.DatabaseError) -> None:
        self._db.close()
        self._db = self._set_aside(problem) if self.path is not None else _connect(":memory:")

    def _set_aside(self, problem: sqlite3.DatabaseError) -> sqlite3.Connection:
        assert self.path is not None
        number = 1
        while (aside := self.path.with_name(f"{self.path.name}.damaged-{number}")).exists():
            number += 1
        self.path.replace(aside)
        for ending in ("-wal", "-shm"):
            self.path.with_name(self.path.name + ending).unlink(missing_ok=True)
        self._tell(f"{self.path} is damaged ({problem}): it was set aside as {aside.name}, trials start anew")
        return _connect(str(self.path))


def _connect(where: str) -> sqlite3.Connection:
    db = sqlite3.connect(where, timeout=60, check_same_thread=False)
    try:
        if where != ":memory:":
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            answer = db.execute("PRAGMA quick_check(1)").fetchone()
            if answer[0] != "ok":
                raise sqlite3.DatabaseError(answer[0])
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
