"""What happened to each board of each rollout: SQLite, each line on disk before the next board is begun.

`rollouts.sqlite` in `$EDGEC_CONFIG`, else in the user's configuration folder. WAL and synchronous FULL: what was said
to be kept survives a power cut. Order is by number, never by the clock, which may jump.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from edgec.devices import inventory
from edgec.errors import BadInputError, UsageError
from edgec.flash.fleet.boards import UNREACHABLE, Board, Outcome

VERSION = 1  # PRAGMA user_version
RUNNING, HALTED, WAITING, COMPLETE = "running", "halted", "waiting", "complete"
TRYING = "trying"  # of a board: it was told to try the bundle, and has not answered yet
KEPT = 200  # rollouts that are kept; the oldest that are complete go first

_SCHEMA = """
CREATE TABLE IF NOT EXISTS rollouts (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, bundle TEXT NOT NULL, app TEXT NOT NULL, version TEXT NOT NULL,
  canary TEXT NOT NULL, boards INTEGER NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL DEFAULT '',
  decided INTEGER NOT NULL DEFAULT 0, wave INTEGER NOT NULL DEFAULT 0, begun TEXT NOT NULL, changed TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_key ON rollouts (key);
CREATE TABLE IF NOT EXISTS boards (
  rollout INTEGER NOT NULL REFERENCES rollouts (id) ON DELETE CASCADE, name TEXT NOT NULL, kind TEXT NOT NULL,
  number INTEGER NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, seconds REAL NOT NULL, result TEXT NOT NULL,
  error TEXT NOT NULL, changed TEXT NOT NULL, PRIMARY KEY (rollout, name)
) STRICT, WITHOUT ROWID;
"""
_PUT = "INSERT OR REPLACE INTO boards VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True)
class Bundle:
    """What is rolled out: the manifest's identity (SHA-256), the app's name there, its version."""

    identity: str
    app: str = ""
    version: str = ""


@dataclass(frozen=True)
class Record:
    """A rollout in the history.

    Attributes:
        id: of the row.
        canary: as it was begun with.
        state: "running" (also: was killed), "halted", "waiting" (for unreachable boards), "complete".
        why: it was halted.
        decided: number of the last outcome when somebody decided to go on; those up to it count no more.
        wave: the last that was begun, from 0.
        begun: when; ISO 8601 in UTC.
    """

    id: int
    canary: str
    state: str
    why: str
    decided: int
    wave: int
    begun: str


class Line(NamedTuple):
    """A board in the history: its state ("trying", or an outcome's), and the number of that line."""

    name: str
    kind: str
    number: int
    state: str


def path() -> Path:
    """Where the history is; it need not exist yet."""
    return inventory.path().with_name("rollouts.sqlite")


def key(bundle: Bundle, boards: Sequence[Board]) -> str:
    """What makes it the same rollout: the bundle, the app's name there, the boards' names."""
    told = json.dumps([bundle.identity, bundle.app, sorted(board.name for board in boards)])
    return hashlib.sha256(told.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).replace(microsecond=0).isoformat()


class History:
    """The history's file.

    Args:
        where: the file, made with its folder; None keeps it in memory.
        now: the time, for people.

    Raises:
        BadInputError (E225): it can't be used. Here, and wherever something can't be kept: a rollout ends then.
    """

    def __init__(self, where: Path | None, *, now: Callable[[], str] = _now) -> None:
        self._where, self._now = where, now
        self._numbers: dict[int, int] = {}
        with self._told():
            if where is not None:
                where.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(where or ":memory:", timeout=60, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def last(self, key: str) -> Record | None:
        """The newest rollout of a key."""
        with self._told():
            row = self._db.execute(
                "SELECT id, canary, state, why, decided, wave, begun FROM rollouts WHERE key = ? ORDER BY id DESC",
                (key,),
            ).fetchone()
        return Record(*row) if row else None

    def begin(self, key: str, bundle: Bundle, canary: str, boards: int) -> Record:
        """A new rollout."""
        now = self._now()
        with self._told():
            done = self._db.execute(
                "INSERT INTO rollouts (key, bundle, app, version, canary, boards, state, begun, changed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (key, bundle.identity, bundle.app, bundle.version, canary, boards, RUNNING, now, now),
            )
            self._db.execute(
                "DELETE FROM rollouts WHERE state = ? AND id <= (SELECT max(id) FROM rollouts) - ?", (COMPLETE, KEPT)
            )
        assert done.lastrowid is not None
        return Record(done.lastrowid, canary, RUNNING, "", 0, 0, now)

    def mark(self, rollout: int, state: str, why: str = "") -> None:
        """The state of a rollout."""
        with self._told():
            self._db.execute(
                "UPDATE rollouts SET state = ?, why = ?, changed = ? WHERE id = ?", (state, why, self._now(), rollout)
            )

    def reach(self, rollout: int, wave: int) -> None:
        """A wave begins."""
        with self._told():
            self._db.execute("UPDATE rollouts SET wave = ?, changed = ? WHERE id = ?", (wave, self._now(), rollout))

    def decide(self, rollout: int) -> int:
        """Somebody decided to go on: what failed up to now counts no more. Returns the number of the last line."""
        number = self._next(rollout) - 1
        with self._told():
            self._db.execute(
                "UPDATE rollouts SET state = ?, decided = ?, changed = ? WHERE id = ?",
                (RUNNING, number, self._now(), rollout),
            )
        return number

    def trying(self, rollout: int, board: Board, attempts: int) -> None:
        """A board is told to try the bundle: kept before it is."""
        self._put(rollout, board, TRYING, attempts, 0.0, "", "")

    def settle(self, rollout: int, outcome: Outcome) -> None:
        """How it ended for a board; kept when this returns."""
        result = json.dumps(dict(outcome.result), default=str) if outcome.result else ""
        error = json.dumps(dict(outcome.error), default=str) if outcome.error else ""
        self._put(rollout, outcome.board, outcome.state, outcome.attempts, outcome.seconds, result, error)

    def lines(self, rollout: int) -> list[Line]:
        """All boards of a rollout that something is known of."""
        with self._told():
            rows = self._db.execute(
                "SELECT name, kind, number, state FROM boards WHERE rollout = ? ORDER BY number", (rollout,)
            ).fetchall()
        return [Line(*row) for row in rows]

    def outcomes(self, rollout: int, boards: Sequence[Board]) -> dict[str, Outcome]:
        """How it ended for these boards, by name. One that still is at risk did not answer."""
        known = {board.name: board for board in boards}
        with self._told():
            rows = self._db.execute(
                "SELECT name, state, result, error, seconds, attempts FROM boards WHERE rollout = ?", (rollout,)
            ).fetchall()
        return {
            name: Outcome(
                known[name], UNREACHABLE if state == TRYING else state, json.loads(result) if result else {},
                json.loads(error) if error else {}, seconds, attempts,
            )
            for name, state, result, error, seconds, attempts in rows if name in known
        }  # fmt: skip

    def _put(
        self, rollout: int, board: Board, state: str, attempts: int, seconds: float, result: str, error: str
    ) -> None:
        row = (rollout, board.name, board.kind, self._next(rollout), state, attempts, seconds, result, error)
        with self._told():
            self._db.execute(_PUT, (*row, self._now()))

    def _next(self, rollout: int) -> int:
        """The number of the next line of a rollout."""
        if rollout not in self._numbers:
            with self._told():
                (last,) = self._db.execute("SELECT max(number) FROM boards WHERE rollout = ?", (rollout,)).fetchone()
            self._numbers[rollout] = last or 0
        self._numbers[rollout] += 1
        return self._numbers[rollout]

    def _prepare(self) -> None:
        if self._where is not None:
            self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise sqlite3.DatabaseError(f"a newer edgec wrote it (version {version})")
        self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {VERSION};")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as e:
            raise BadInputError(
                f"the history of rollouts can't be used: {self._where or 'in memory'}", str(e),
                "Free some space where the disk is full; a damaged file may be moved away, and rollouts begin anew.",
                code="E225",
            ) from e  # fmt: skip


@contextlib.contextmanager
def alone(key: str, folder: Path) -> Iterator[None]:
    """Hold a rollout for this process; it is let go of when the process ends, however it does.

    Raises UsageError (E224) where another process has it.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{key[:32]}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise UsageError(
                "this rollout is under way in another process", "", "Wait until it has ended.", code="E224"
            ) from e
        yield
