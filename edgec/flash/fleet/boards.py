"""What a fleet is made of: a board, an attempt to flash it, and how that ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from edgec.errors import Error, UnreachableError, UsageError

OK, REFUSED, FAILED, LOST, UNREACHABLE = "ok", "refused", "failed", "lost", "unreachable"
SETTLED = (OK, REFUSED, FAILED, LOST)  # nothing more is to be done for a board; an unreachable one is tried again
NO_USE = ("E1101", "E1102", "E1103")  # host key or login: waiting mends neither


@dataclass(frozen=True, slots=True)
class Board:
    """One board of a fleet.

    Attributes:
        name: unique in the fleet, and the same tomorrow: canaries are drawn by it, and the history knows it by it.
        kind: boards of one kind are alike (its board's name); empty where that is not known.
        device: whatever `flash_one` needs to find it.
    """

    name: str
    kind: str = ""
    device: Any = field(default=None, compare=False, repr=False)


class Flashed(Protocol):
    """What `flash_one` returns of a board that has the bundle now."""

    def as_dict(self) -> Mapping[str, Any]:
        """For `--json`: at least `result` ("committed", "probation", "unchanged") and `sent` (bytes)."""


class Attempt:
    """Given to `flash_one`: what it tells, and the one thing that it asks.

    Attributes:
        step: what it does now, for people; done, total: bytes of that step, 0 where there are none.
        number: which attempt this is, from 1.
        limit: when the board has had time enough; activated: whether it may have been told to try the bundle.
    """

    __slots__ = ("_activate", "_tell", "activated", "done", "limit", "number", "step", "total")

    def __init__(
        self,
        activate: Callable[[], Awaitable[None]] | None = None,
        tell: Callable[[], None] | None = None,
        number: int = 1,
    ) -> None:
        self._activate, self._tell = activate, tell
        self.number = number
        self.limit: asyncio.Timeout | None = None
        self.activated = False
        self.step, self.done, self.total = "", 0, 0

    def say(self, step: str, done: int = 0, total: int = 0) -> None:
        """Tell the person who waits."""
        self.step, self.done, self.total = step, done, total
        if self._tell is not None:
            self._tell()

    async def activate(self) -> None:
        """Called once, after everything was sent and before the board is told to try it.

        Waits until one more board may be at risk. Raises HaltedError where the rollout was halted meanwhile: the board
        keeps what it runs, and what was sent.
        """
        if self._activate is None:
            self.activated = True
            return
        now, limit = asyncio.get_running_loop().time, self.limit
        until = limit.when() if limit else None
        if limit is None or until is None:
            await self._activate()
            self.activated = True
            return
        # Waiting for other boards is not this board's time.
        self.say("waiting its turn")
        left = until - now()
        limit.reschedule(None)
        await self._activate()
        limit.reschedule(now() + left)
        self.activated = True


FlashOne = Callable[[Board, Attempt], Awaitable[Flashed]]
"""Flashes one board, or raises an Error: UnreachableError is tried again, all others are final."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended for a board.

    Attributes:
        state: "ok"; "refused" (the board did not try it: nothing changed there); "failed" (it tried, and rolled back);
            "lost" (it was told to try it, and was not heard of again); "unreachable" (it was not told).
        result: what `flash_one` returned, or knows of a rollback; empty where that is nothing.
        error: of a board that is not ok (`Error.as_dict`).
        seconds: of the last attempt.
        attempts: how often it was tried.
    """

    board: Board
    state: str
    result: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    attempts: int = 1

    @property
    def sent(self) -> int:
        """Bytes that went to the board in the last attempt."""
        return int(self.result.get("sent") or 0)

    @property
    def words(self) -> str:
        """For people, in a line."""
        if self.state == OK:
            return str(self.result.get("result") or "flashed")
        what, why = str(self.error.get("what", "")), str(self.error.get("why", ""))
        return f"{what}: {why}" if why else what

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "device": self.board.name, "kind": self.board.kind, "state": self.state, "attempts": self.attempts,
            "seconds": round(self.seconds, 3), "result": dict(self.result) or None, "error": dict(self.error) or None,
        }  # fmt: skip


class HaltedError(Error):
    """A board that was not tried because the rollout was halted (exit 7)."""

    code, exit_code = "E720", 7


def once(boards: Sequence[Board]) -> None:
    """Raise UsageError (E226) where two boards have one name: a board must not be flashed twice at once."""
    seen: set[str] = set()
    for board in boards:
        if board.name in seen:
            raise UsageError(f"the device '{board.name}' is named twice", "", "Name each device once.", code="E226")
        seen.add(board.name)


async def attempted(board: Board, attempt: Attempt, flash_one: FlashOne, *, patience: float) -> Outcome:
    """Try one board once. Whatever goes wrong with it is its outcome; HaltedError and cancelling are passed on.

    Args:
        board, attempt, flash_one: what to do.
        patience: seconds after which the board counts as unreachable.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    error: Error
    state, known = UNREACHABLE, {}
    try:
        async with asyncio.timeout(patience) as attempt.limit:
            done = await flash_one(board, attempt)
        return Outcome(board, OK, done.as_dict(), {}, clock() - began, attempt.number)
    except HaltedError:
        raise
    except UnreachableError as e:
        error = e
    except Error as e:
        error, state = e, _failed(attempt)
        said: Flashed | None = getattr(e, "flashed", None)  # what a rollback knows beside its reason
        known = dict(said.as_dict()) if said is not None else {}
    except TimeoutError:
        why = f"it was at '{attempt.step}' after {patience:.0f} seconds" if attempt.step else ""
        error = UnreachableError(f"{board.name} did not come to an end", why, "Run it again.", code="E1104")
    except Exception as e:
        # A mistake of ours with one board must not take the others down; its name helps to find it.
        state = _failed(attempt)
        error = Error(
            f"flashing {board.name} ended unexpectedly", f"{type(e).__name__}: {e}",
            "Flash it alone with --debug, and report what it says.", code="E721",
        )  # fmt: skip
    return Outcome(board, state, known, error.as_dict(), clock() - began, attempt.number)


def _failed(attempt: Attempt) -> str:
    return FAILED if attempt.activated else REFUSED
