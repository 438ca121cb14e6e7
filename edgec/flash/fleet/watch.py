"""Who is told of what happens: nobody here; a person by `show`."""

from __future__ import annotations

from typing import Protocol

from edgec.flash.fleet.boards import Attempt, Board, Outcome


class Watch(Protocol):
    """Told of each thing that happens, in order, in the event loop: must not block."""

    def begun(self, board: Board, attempt: Attempt) -> None:
        """An attempt begins."""

    def step(self, board: Board, attempt: Attempt) -> None:
        """It says something (`Attempt.say`)."""

    def ended(self, outcome: Outcome) -> None:
        """A board came to its end, or was given up for now."""

    def waits(self, outcome: Outcome, seconds: float) -> None:
        """An unreachable board is tried again in so many seconds."""

    def wave(self, number: int, waves: int, boards: int, limit: int) -> None:
        """A wave begins: its number from 1, of so many; boards of all waves so far; how many that fail halt it."""

    def halted(self, why: str) -> None:
        """The rollout was halted."""


class Quiet:
    """Tells nobody."""

    def begun(self, board: Board, attempt: Attempt) -> None:
        """Nothing."""

    def step(self, board: Board, attempt: Attempt) -> None:
        """Nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Nothing."""

    def waits(self, outcome: Outcome, seconds: float) -> None:
        """Nothing."""

    def wave(self, number: int, waves: int, boards: int, limit: int) -> None:
        """Nothing."""

    def halted(self, why: str) -> None:
        """Nothing."""
