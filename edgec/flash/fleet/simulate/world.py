"""Boards that are made up: what is true of each, whatever the rollout believes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgec.errors import RolledBackError, UnreachableError, UnsupportedError
from edgec.flash.fleet.boards import Attempt, Board
from edgec.flash.fleet.simulate.scenario import Faults, Scenario

TIMEOUT = 15.0  # seconds until a board that is off counts as that
CONNECT = 0.5  # seconds


@dataclass(slots=True)
class Real:
    """A board as it is.

    Attributes:
        away: virtual time until which it is switched off.
        have: bytes of the bundle that it has; sent: that went over its link.
        runs: the new bundle is the one that runs.
        broke: it tried the bundle and rolled back, or is gone for good since.
        trials: how often it was told to try; until: when its trial ends.
        bad: what it says of every bundle.
    """

    away: float
    bad: str
    have: int = 0
    sent: int = 0
    runs: bool = False
    broke: bool = False
    gone: bool = False
    trials: int = 0
    until: float = 0.0


class _Done:
    __slots__ = ("result", "sent")

    def __init__(self, result: str, sent: int) -> None:
        self.result, self.sent = result, sent

    def as_dict(self) -> Mapping[str, Any]:
        return {"result": self.result, "sent": self.sent}


class World:
    """The fleet. `flash_one` is what a rollout is given.

    Attributes:
        boards: as the rollout sees them; real: as they are, by name.
        broken: boards that tried the bundle and failed.
        first: names in the order in which they were told to try.
    """

    def __init__(self, scenario: Scenario) -> None:
        self._chance = random.Random(scenario.seed)
        self._scenario, self._faults = scenario, scenario.faults
        chance, faults = self._chance, scenario.faults
        names = list(scenario.kinds)
        # Of every kind one, then by their parts.
        drawn = names[: scenario.boards] + chance.choices(
            names, list(scenario.kinds.values()), k=max(0, scenario.boards - len(names))
        )
        self.boards = [Board(f"board-{n:06}", kind) for n, kind in enumerate(drawn)]
        self.real = {board.name: Real(self._away(faults), self._bad(faults, board.kind)) for board in self.boards}
        self.broken = 0
        self.first: list[str] = []

    def _away(self, faults: Faults) -> float:
        if self._chance.random() >= faults.offline:
            return 0.0
        return float("inf") if self._chance.random() < faults.gone else self._chance.expovariate(1 / faults.away)

    def _bad(self, faults: Faults, kind: str) -> str:
        rates = {
            "the memory is broken": faults.bad_hardware,
            "golden answers differ": faults.breaks.get(kind, faults.breaks.get("", 0.0)),
            "crash": faults.crashes, "refuse": faults.refuses,
        }  # fmt: skip
        return next((why for why, rate in rates.items() if rate and self._chance.random() < rate), "")

    async def flash_one(self, board: Board, attempt: Attempt) -> _Done:
        """Flash one board, as `edgec flash` does: connect, send what is missing, wait for the permit, trial."""
        scenario, real, now = self._scenario, self.real[board.name], asyncio.get_running_loop().time
        if real.gone or real.away > now():
            await asyncio.sleep(TIMEOUT)
            raise UnreachableError(f"can't reach {board.name}", code="E1100")
        if real.runs:
            await asyncio.sleep(max(CONNECT, real.until - now()))
            return _Done("unchanged", 0)
        if real.broke:
            await asyncio.sleep(max(CONNECT, real.until - now()))
            raise RolledBackError(f"{board.name} rolled back", real.bad)
        if real.bad == "refuse":
            await asyncio.sleep(CONNECT)
            raise UnsupportedError(f"{board.name} has no room", code="E906")
        missing = scenario.size - real.have
        cut = bool(self._faults.cut) and self._chance.random() < self._faults.cut
        sent = int(missing * self._chance.random()) if cut else missing
        real.have += sent
        real.sent += sent
        await asyncio.sleep(CONNECT + sent / scenario.rate)
        if cut:
            raise UnreachableError(f"the connection to {board.name} was lost", code="E1104")
        await attempt.activate()
        self._try(board.name, real, now())
        if real.gone or (self._faults.cut_trial and self._chance.random() < self._faults.cut_trial):
            await asyncio.sleep(scenario.trial / 2)
            raise UnreachableError(f"the connection to {board.name} was lost", code="E1104")
        await asyncio.sleep(scenario.trial)
        if real.broke:
            raise RolledBackError(f"{board.name} rolled back", real.bad)
        return _Done("committed", sent)

    def _try(self, name: str, real: Real, now: float) -> None:
        """The board is told to try the bundle: what comes of it does not depend on the host any more."""
        real.trials += 1
        real.until = now + self._scenario.trial
        self.first.append(name)
        if not real.bad:
            real.runs = True
        else:
            real.broke, real.gone = True, real.bad == "crash"
            self.broken += 1
