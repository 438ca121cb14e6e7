"""Which board is next: waves, boards that are tried again, and others in the place of those that don't answer.

No clock and no network in here: the time comes in, a board goes out.

A wave is a number of boards of each kind that must come to their end. An unreachable board waits and is tried again;
when it was tried often enough, the next board of its kind takes its place in the wave, and it comes at the end once
more. So every wave ends, and a canary that is switched off proves nothing.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence

from edgec.flash.fleet.boards import Board
from edgec.flash.fleet.policy import Policy


class Plan:
    """What is still to be done.

    Attributes:
        wave: of `waves`, from 0.
        left: boards that have not come to their end, unreachable ones among them.
    """

    def __init__(
        self, order: Sequence[Board], waves: Sequence[Mapping[str, int]], policy: Policy,
        settled: Iterable[str] = (), urgent: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """Begin, or go on.

        Args:
            order: all boards, those first that come first.
            waves: from `waves.quotas`.
            policy: how often an unreachable board is tried, and when.
            settled: names of boards that came to their end earlier; urgent: of those that others wait for.
        """
        self._policy, self.waves = policy, waves
        done, first = set(settled), set(urgent)
        self._settled: Counter[str] = Counter()
        self._busy: Counter[str] = Counter()  # under way, or waiting to be tried again in this wave
        self._fresh: dict[str, deque[Board]] = {kind: deque() for kind in waves[-1]} if waves else {}
        self._kinds = deque(self._fresh)
        self._again: dict[bool, list[tuple[float, int, Board]]] = {False: [], True: []}  # the urgent ones apart
        self._tried: dict[str, int] = {}
        self._deferred: list[Board] = []
        self._count, self._round = 0, 1
        for board in order:
            if board.name in done:
                self._settled[board.kind] += 1
            elif board.name in first:
                self._busy[board.kind] += 1
                self._later(board, 0.0, urgent=True)
            else:
                self._fresh[board.kind].append(board)
        self.left = len(order) - self._settled.total()
        self.wave = 0
        self._advance(0.0)

    def size(self, wave: int) -> int:
        """Boards of all waves up to one."""
        return sum(self.waves[wave].values()) if self.waves else 0

    def next(self, now: float, *, room: bool = True) -> Board | None:
        """The board to try now, which then is under way; None where there is none at this time.

        Args:
            now: the time.
            room: False where only an urgent one may be begun: others wait for what becomes of it.
        """
        for urgent in (True, False) if room else (True,):
            if (again := self._again[urgent]) and again[0][0] <= now:
                return heapq.heappop(again)[2]
        for _ in range(len(self._kinds) if room else 0):  # kinds take turns
            kind = self._kinds[0]
            self._kinds.rotate(-1)
            if self._fresh[kind] and self._settled[kind] + self._busy[kind] < self.waves[self.wave][kind]:
                self._busy[kind] += 1
                return self._fresh[kind].popleft()
        return None

    def when(self, *, room: bool = True) -> float | None:
        """When the next board that waits is to be tried again; None where none waits. `room` as for `next`."""
        heaps = (self._again[True], self._again[False]) if room else (self._again[True],)
        return min((heap[0][0] for heap in heaps if heap), default=None)

    def attempts(self, board: Board) -> int:
        """How often a board was tried in this round."""
        return self._tried.get(board.name, 0)

    def settle(self, board: Board, now: float) -> None:
        """A board that was under way came to its end."""
        self._busy[board.kind] -= 1
        self._settled[board.kind] += 1
        self._tried.pop(board.name, None)
        self.left -= 1
        self._advance(now)

    def wait(self, board: Board, now: float, *, urgent: bool) -> float | None:
        """A board that was under way did not answer: the seconds after which it is tried again.

        None where it was tried often enough: then it must be given up (`defer` or `settle`). `urgent` where other
        boards wait for what becomes of it.
        """
        tried = self._tried[board.name] = self.attempts(board) + 1
        if tried >= self._policy.attempts:
            return None
        pause = self._policy.pause(tried)
        self._later(board, now + pause, urgent=urgent)
        return pause

    def defer(self, board: Board, now: float) -> None:
        """A board that was under way is left for the end; another takes its place in this wave."""
        self._tried.pop(board.name, None)
        self._busy[board.kind] -= 1
        self._deferred.append(board)
        self._advance(now)

    def _later(self, board: Board, when: float, *, urgent: bool = False) -> None:
        self._count += 1
        heapq.heappush(self._again[urgent], (when, self._count, board))

    def _advance(self, now: float) -> None:
        """To the next wave where this one is over, and to the next round where all are."""
        while self.waves and self._over():
            if self.wave + 1 < len(self.waves):
                self.wave += 1
            elif self._deferred and self._round < self._policy.rounds:
                self._round += 1
                for board in self._deferred:
                    self._busy[board.kind] += 1
                    self._later(board, now + self._policy.pause(self._policy.attempts))
                self._deferred.clear()
            else:
                return

    def _over(self) -> bool:
        quota = self.waves[self.wave]
        return all(
            not self._busy[kind] and (self._settled[kind] >= quota[kind] or not fresh)
            for kind, fresh in self._fresh.items()
        )
