"""Rollouts to 100,000 simulated boards: whether they converge, what they cost, how many boards a bad bundle reaches.

    python -m benchmarks.fleet [--boards 100000]

The engine is the product's own, on boards that are made up and a clock that jumps (`edgec.flash.fleet.simulate`). Each
board gets 5 MB over 1 MB/s and a trial of 3 s; 500 boards are under way at once; canaries are 1 %, the second wave is
10 %, the failure budget 2 %. "broken" boards tried the bundle and rolled back (or are gone); "over budget" is the most
that they ever were over the budget of the wave, at any moment. The last rows are what happens without waves and budget:
`flash_many`, which is what `edgec flash` to many devices does without --canary.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

from benchmarks import record
from edgec.flash.fleet import flash_many
from edgec.flash.fleet.simulate import Faults, Scenario, simulate
from edgec.flash.fleet.simulate.clock import Loop
from edgec.flash.fleet.simulate.world import World

ROUGH = {"offline": 0.05, "gone": 0.05, "cut": 0.2, "cut_trial": 0.02}
SCENARIOS = {
    "nothing goes wrong": Faults(),
    "5 % off, 20 % of links cut": Faults(**ROUGH),
    "1 % of boards broken": Faults(bad_hardware=0.01),
    "1 % broken, rough, host killed 20 times, clock jumps": Faults(**ROUGH, bad_hardware=0.01, kills=20),
    "bundle fails on every board": Faults(breaks={"": 1.0}),
    "bundle fails on one kind (2 % of boards)": Faults(breaks={"rpi3": 1.0}),
    "the same, rough, host killed 20 times": Faults(**ROUGH, breaks={"rpi3": 1.0}, kills=20),
    "bundle fails on 5 % of boards": Faults(breaks={"": 0.05}),
    "bundle fails on 3 % of boards": Faults(breaks={"": 0.03}),
    "bundle crashes 30 % of boards for good": Faults(crashes=0.3),
}  # fmt: skip
WITHOUT = ("bundle fails on every board", "bundle fails on one kind (2 % of boards)")
SEEDS = 100  # of the table of seeds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--boards", type=int, default=100_000)
    boards = parser.parse_args().boards
    rows = [row(name, Scenario(boards=boards, faults=faults)) for name, faults in SCENARIOS.items()]
    rows += [without(f"no waves: {name}", Scenario(boards=boards, faults=SCENARIOS[name])) for name in WITHOUT]
    print(
        f"{'':58} {'ends':9} {'tried':>7} {'updated':>7} {'broken':>6} {'over':>4} {'TB':>6} {'hours':>6} {'CPU s':>6}"
    )
    for each in rows:
        print(
            f"{each['scenario']:58} {each['state']:9} {each['tried']:7,} {each['updated']:7,} {each['broken']:6,}"
            f" {each['exceeded']:4} {each['sent'] / 1e12:6.3f} {each['hours']:6.2f} {each['cpu_seconds']:6.1f}"
        )
    spread = seeds(boards // 10)
    print(f"bundle fails on one kind, {SEEDS} seeds: broken boards {spread}")
    print(record.save("fleet", {"rollouts": rows, "one_kind_seeds": spread}, boards=boards))


def row(name: str, scenario: Scenario) -> dict[str, Any]:
    begin = time.process_time()
    result = simulate(scenario)
    return {"scenario": name, **result.as_dict(), "cpu_seconds": round(time.process_time() - begin, 1)}


def seeds(boards: int) -> dict[str, int]:
    """How many boards a bundle that fails on one kind breaks, over seeds."""
    results = [simulate(Scenario(boards=boards, faults=Faults(breaks={"rpi3": 1.0}), seed=n)) for n in range(SEEDS)]
    broken = [result.broken for result in results]
    return {
        "seeds": SEEDS, "boards": boards, "fewest": min(broken), "most": max(broken),
        "halted": sum(result.state == "halted" for result in results),
        "exceeded": max(result.exceeded for result in results),
    }  # fmt: skip


def without(name: str, scenario: Scenario) -> dict[str, Any]:
    """The same fleet, all at once."""
    begin, loop, world = time.process_time(), Loop(), World(scenario)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(flash_many(world.boards, world.flash_one, at_once=scenario.policy.at_once))
        hours = loop.time() / 3600
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    real = world.real.values()
    return {
        "scenario": name, "state": "complete", "why": "", "boards": scenario.boards,
        "tried": sum(each.trials > 0 for each in real), "updated": sum(each.runs for each in real),
        "broken": world.broken, "exceeded": world.broken - scenario.boards // 50, "budget": scenario.boards // 50,
        "sent": sum(each.sent for each in real), "hours": round(hours, 2), "runs": 1,
        "cpu_seconds": round(time.process_time() - begin, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
