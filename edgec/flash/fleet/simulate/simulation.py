"""Run a scenario by the rollout engine, kill the host in between, and say what became of the boards."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from edgec.flash.fleet.boards import HaltedError, Outcome
from edgec.flash.fleet.history import Bundle, History
from edgec.flash.fleet.rollout import Rollout
from edgec.flash.fleet.simulate.clock import Loop
from edgec.flash.fleet.simulate.scenario import Scenario
from edgec.flash.fleet.simulate.world import World
from edgec.flash.fleet.summary import Summary, standing
from edgec.flash.fleet.watch import Quiet

START = datetime(2026, 1, 1, tzinfo=UTC)
RUNS = 4  # times that a rollout that waits for boards is begun again


@dataclass
class Result:
    """What became of it.

    Attributes:
        state, why: of the last run.
        boards: of the fleet; tried: that were told to try the bundle; updated: that run it now.
        broken: that tried and rolled back, or are gone since; refused: that did not try it.
        offline: that could not be reached to the end.
        exceeded: the most that broken boards were over the wave's budget, at any moment: 0 where it was kept.
        budget: of the last wave.
        sent: bytes; hours: virtual; runs: of the host's process.
        kinds: of the canaries, in the order in which they were tried.
        summary, world: everything, for tests.
    """

    state: str
    why: str
    boards: int
    tried: int
    updated: int
    broken: int
    refused: int
    offline: int
    exceeded: int
    budget: int
    sent: int
    hours: float
    runs: int
    summary: Summary = field(repr=False)
    world: World = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The figures."""
        hidden = ("summary", "world")
        return {name: value for name, value in vars(self).items() if name not in hidden}


class _Observer(Quiet):
    """Holds the number of broken boards against the budget, whenever one more is."""

    def __init__(self, world: World) -> None:
        self._world, self.limit, self.exceeded = world, 0, 0

    def wave(self, number: int, waves: int, boards: int, limit: int) -> None:
        """The budget of this wave."""
        self.limit = limit

    def ended(self, outcome: Outcome) -> None:
        """Look."""
        self.look()

    def look(self) -> None:
        """Now."""
        self.exceeded = max(self.exceeded, self._world.broken - self.limit)


def simulate(scenario: Scenario, *, history: History | None = None, runs: int = RUNS) -> Result:
    """Roll out to a made-up fleet until it is complete or halted.

    Args:
        scenario: the fleet, and what goes wrong.
        history: where it is kept; None for memory. It is what survives when the host is killed.
        runs: how often the command is given again while boards are unreachable.
    """
    world, chance = World(scenario), random.Random(scenario.seed + 1)
    wall = [START]
    store = history or History(None, now=lambda: wall[0].isoformat())
    bundle = Bundle(f"{scenario.seed:064x}", "app", "2.0.0")
    observer, loop = _Observer(world), Loop()
    whole = scenario.boards * (scenario.size / scenario.rate + scenario.trial) / scenario.policy.at_once
    kills = sorted(chance.uniform(0, whole) for _ in range(scenario.faults.kills))
    number = 0
    try:
        asyncio.set_event_loop(loop)
        while True:
            number += 1
            try:
                rollout = Rollout(
                    world.boards, world.flash_one, bundle=bundle, policy=scenario.policy, history=store, watch=observer
                )
            except HaltedError:  # it was killed right after it was halted
                summary = standing(world.boards, bundle, store)
                assert summary is not None
                break
            summary = loop.run_until_complete(_run(rollout, kills.pop(0) - loop.time() if kills else None))
            if summary is None:  # killed
                wall[0] = START + timedelta(days=chance.uniform(-3000, 3000))
                continue
            if summary.state != "waiting" or number >= runs:
                break
    finally:
        for task in (left := asyncio.all_tasks(loop)):  # none, unless it failed
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        asyncio.set_event_loop(None)
        loop.close()
    observer.look()
    real = world.real.values()
    return Result(
        state=summary.state, why=summary.why, boards=scenario.boards, tried=sum(r.trials > 0 for r in real),
        updated=sum(r.runs for r in real), broken=world.broken,
        refused=sum(o.state == "refused" for o in summary.outcomes),
        offline=sum(o.state == "unreachable" for o in summary.outcomes), exceeded=observer.exceeded,
        budget=observer.limit, sent=sum(r.sent for r in real), hours=round(loop.time() / 3600, 2), runs=number,
        summary=summary, world=world,
    )  # fmt: skip


async def _run(rollout: Rollout, seconds: float | None) -> Summary | None:
    """Run it; None where the host was killed before it ended: nothing of it runs then but its cancelling."""
    try:
        async with asyncio.timeout(None if seconds is None else max(0.0, seconds)):
            return await rollout.run()
    except TimeoutError:
        return None
