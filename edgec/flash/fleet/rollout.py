"""A staged rollout: canaries → 10 % → all, halted where boards fail, and gone on with after the host was killed.

`waves` says who comes when, `plan` who is next, `budget` who may be at risk, `history` keeps each outcome before the
next board begins; here they are driven by asyncio. Of time only the loop's own clock is used, which no one can set.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from edgec.errors import UsageError
from edgec.flash.fleet import history as kept
from edgec.flash.fleet import waves
from edgec.flash.fleet.boards import (
    FAILED,
    LOST,
    NO_USE,
    OK,
    REFUSED,
    SETTLED,
    UNREACHABLE,
    Attempt,
    Board,
    FlashOne,
    HaltedError,
    Outcome,
    attempted,
    once,
)
from edgec.flash.fleet.budget import Budget
from edgec.flash.fleet.history import Bundle, History, Record
from edgec.flash.fleet.plan import Plan
from edgec.flash.fleet.policy import Policy
from edgec.flash.fleet.summary import Summary, of
from edgec.flash.fleet.watch import Quiet, Watch


class Rollout:
    """One rollout of one bundle to one fleet. `await Rollout(…).run()`."""

    def __init__(
        self,
        boards: Sequence[Board],
        flash_one: FlashOne,
        *,
        bundle: Bundle,
        policy: Policy,
        history: History,
        go_on: bool = False,
        watch: Watch | None = None,
    ) -> None:
        """Begin a rollout, or find the one that was begun with the same bundle and boards.

        Args:
            boards: names are unique.
            flash_one: does one board; it calls `attempt.activate()` before the board tries the bundle.
            bundle, policy, history: what, how, and where it is kept.
            go_on: go on though it was halted: what failed up to now counts no more, and is not tried again.
            watch: told of what happens.

        Raises:
            HaltedError (E720): it was halted, and nobody decided to go on.
            UsageError: two boards of one name (E226); another canary than it was begun with (E227); nothing was
                halted that could be gone on with (E228).
        """
        self._boards, self._flash, self._bundle, self._policy = boards, flash_one, bundle, policy
        self._history, self._watch = history, watch or Quiet()
        once(boards)
        self._record, self.resumed = self._found(go_on)
        before = history.lines(self._record.id) if self.resumed else []
        trying = {line.name for line in before if line.state == kept.TRYING}
        order = waves.ordered(boards, bundle.identity)
        kinds = waves.count(boards)
        done = [line for line in before if line.state in SETTLED]
        self._plan = Plan(
            # Those that were being tried come first: they are at risk until they say how it went.
            order, waves.quotas(kinds, policy), policy, settled=(line.name for line in done), urgent=trying,
        )  # fmt: skip
        self._budget = Budget(policy.tolerated, policy.doubt, kinds)
        self._risked = trying
        for line in before:
            if line.state == kept.TRYING:
                self._budget.again(line.kind)
            elif line.state in SETTLED and line.number > self._record.decided:
                self._budget.count(line.kind, ok=line.state == OK)
        self._gate: dict[str, asyncio.Future[bool]] = {}
        self._tasks: dict[asyncio.Task[None], Board] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._wave, self._reached, self._halted = -1, min(self._record.wave, len(self._plan.waves) - 1), False

    @property
    def begun(self) -> str:
        """When it was begun, ISO 8601 in UTC."""
        return self._record.begun

    async def run(self) -> Summary:
        """Run it to its end, which it always reaches: each board comes to its end or is given up as unreachable.

        Raises BadInputError (E225) where the history can't be written: no board more is begun then. Cancelling it, or
        killing the process, loses nothing: the next run goes on.
        """
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[None] = self._loop.create_future()
        try:
            self._fill()
            await self._end
        finally:
            if self._timer:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        return self._summary()

    def _found(self, go_on: bool) -> tuple[Record, bool]:
        """The rollout in the history: the one to go on with, or a new one; and whether it is an old one."""
        canary, key = self._policy.canary.text, kept.key(self._bundle, self._boards)
        record = self._history.last(key)
        if record is None or record.state == kept.COMPLETE:
            if go_on:
                raise UsageError(
                    "there is no halted rollout of this bundle to these devices", "", "Leave --continue out.",
                    code="E228",
                )  # fmt: skip
            return self._history.begin(key, self._bundle, canary, len(self._boards)), False
        if record.canary != canary:
            raise UsageError(
                f"this rollout was begun with --canary {record.canary}", f"on {record.begun[:10]}",
                f"Go on with --canary {record.canary}.", code="E227",
            )  # fmt: skip
        if record.state == kept.HALTED:
            if not go_on:
                raise HaltedError(
                    "this rollout was halted", record.why,
                    "Look at what failed (edgec logs --on DEVICE). --continue goes on with the devices that are left; "
                    "a mended bundle begins a new rollout.",
                )  # fmt: skip
            return replace(record, decided=self._history.decide(record.id)), True
        if go_on:
            raise UsageError("this rollout is not halted", "", "Leave --continue out: it goes on.", code="E228")
        return record, True

    def _fill(self) -> None:
        """Begin as many boards as there is room for; the end where nothing is left to do or to wait for."""
        if self._end.done():
            return
        try:
            self._enter()
            now = self._loop.time()
            # Boards that wait for their permit fill the room; the one that they wait for needs none.
            while not self._budget.why:
                room = len(self._tasks) < self._policy.at_once
                board = self._plan.next(now, room=room)
                if board is None:
                    break
                task = self._loop.create_task(self._one(board))
                self._tasks[task] = board
                task.add_done_callback(self._left)
        except Exception as error:
            self._end.set_exception(error)
            return
        room = len(self._tasks) < self._policy.at_once
        when = None if self._budget.why else self._plan.when(room=room)
        if self._timer and (when is None or self._timer.when() > when):
            self._timer.cancel()
            self._timer = None
        if when is not None and self._timer is None and when > now:
            self._timer = self._loop.call_at(when, self._due)
        if not self._tasks and when is None:
            self._end.set_result(None)

    def _due(self) -> None:
        self._timer = None
        self._fill()

    def _enter(self) -> None:
        """Tell of a new wave; halt where that is due."""
        if self._plan.wave != self._wave and not self._budget.why:
            self._wave = self._plan.wave
            if self._wave > self._reached:
                self._reached = self._wave
                self._history.reach(self._record.id, self._wave)
            # Boards of a kind that did not answer in an earlier run have their canaries now; what failed meanwhile
            # belongs to the waves that were begun.
            self._budget.wave(self._plan.size(self._reached))
            size = self._plan.size(self._wave)
            self._watch.wave(self._wave + 1, len(self._plan.waves), size, self._budget.limit)
        if self._budget.why and self._plan.left and not self._halted:
            self._halted = True
            self._history.mark(self._record.id, kept.HALTED, self._budget.why)
            self._watch.halted(self._budget.why)
            for task, board in self._tasks.items():
                # What was sent stays on the board, for the next time. Those at the gate have their answer.
                if board.name not in self._risked and board.name not in self._gate:
                    task.cancel()

    async def _one(self, board: Board) -> None:
        """Try a board once, keep what came of it, and begin the next."""
        number = self._plan.attempts(board) + 1
        attempt = Attempt(partial(self._activate, board), lambda: self._watch.step(board, attempt), number)
        try:
            self._watch.begun(board, attempt)
            self._came(await attempted(board, attempt, self._flash, patience=self._policy.patience))
        except HaltedError:
            pass
        except Exception as error:  # the history
            if not self._end.done():
                self._end.set_exception(error)

    def _left(self, task: asyncio.Task[None]) -> None:
        """An attempt is over, or was cancelled before it began."""
        board = self._tasks.pop(task)
        if (answer := self._gate.pop(board.name, None)) is not None:
            answer.cancel()  # nothing where it was answered
        self._fill()

    async def _activate(self, board: Board) -> None:
        """Wait until the board may be at risk; that it is is kept before it is told."""
        if board.name in self._risked:  # in an attempt before
            return
        answer = self._gate.get(board.name)  # it may have asked over a connection that was lost since
        if answer is None:
            answer = self._gate[board.name] = self._loop.create_future()
            self._budget.ask(board.kind, partial(_answer, answer))
        if not (answer.result() if answer.done() else await asyncio.shield(answer)):
            raise HaltedError("the rollout was halted", self._budget.why)
        if board.name not in self._risked:
            self._risked.add(board.name)
            self._history.trying(self._record.id, board, self._plan.attempts(board) + 1)

    def _came(self, outcome: Outcome) -> None:
        """An attempt ended."""
        board = outcome.board
        risked = board.name in self._risked
        if outcome.state == UNREACHABLE:
            useless = outcome.error.get("code") in NO_USE
            pause = None if useless or self._budget.why else self._plan.wait(board, self._loop.time(), urgent=risked)
            if pause is not None:
                self._watch.waits(outcome, pause)
                return
            if not risked or self._budget.why:
                if not risked:
                    self._history.settle(self._record.id, outcome)
                self._plan.defer(board, self._loop.time())
                self._watch.ended(outcome)
                return
            outcome = replace(outcome, state=LOST)
        elif outcome.state == REFUSED and risked:  # in an attempt before it was told to try it
            outcome = replace(outcome, state=FAILED)
        self._history.settle(self._record.id, outcome)
        self._risked.discard(board.name)
        self._watch.ended(outcome)
        # The budget first: the wave that ends with this board is held against its own limit.
        self._budget.settle(board.kind, ok=outcome.state == OK, risked=risked)
        self._plan.settle(board, self._loop.time())

    def _summary(self) -> Summary:
        left = self._plan.left
        state = kept.COMPLETE if not left else kept.HALTED if self._budget.why else kept.WAITING
        why = self._budget.why if state == kept.HALTED else ""
        self._history.mark(self._record.id, state, why)
        return of(replace(self._record, state=state, why=why), self._boards, self._history, self.resumed)


def _answer(answer: asyncio.Future[bool], yes: bool) -> bool:
    if wanted := not answer.done():  # else whoever asked has left
        answer.set_result(yes)
    return wanted
