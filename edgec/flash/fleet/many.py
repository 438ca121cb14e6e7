"""Many boards at once: so many at a time, and one board's failure stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from edgec.flash.fleet.boards import Attempt, Board, FlashOne, Outcome, attempted, once
from edgec.flash.fleet.policy import AT_ONCE, PATIENCE
from edgec.flash.fleet.watch import Quiet, Watch


async def flash_many(
    boards: Sequence[Board],
    flash_one: FlashOne,
    *,
    at_once: int = AT_ONCE,
    patience: float = PATIENCE,
    watch: Watch | None = None,
) -> list[Outcome]:
    """Flash all boards; the outcomes are in the boards' order, and nothing that goes wrong with a board is raised.

    Args:
        boards: names are unique.
        flash_one: does one.
        at_once: boards under way at a time.
        patience: seconds for a board.
        watch: told of what happens.

    Raises UsageError (E226) where two boards have one name.
    """
    once(boards)
    seen = watch or Quiet()
    room = asyncio.Semaphore(at_once)

    async def one(board: Board) -> Outcome:
        async with room:
            attempt = Attempt(tell=lambda: seen.step(board, attempt))
            seen.begun(board, attempt)
            outcome = await attempted(board, attempt, flash_one, patience=patience)
            seen.ended(outcome)
            return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(board)) for board in boards]
    return [task.result() for task in tasks]
