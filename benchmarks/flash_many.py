"""Twenty devices flashed at once, each behind a link of 1 MB/s, beside one alone: the time, and where it goes.

    python -m benchmarks.flash_many [--boards 20] [--engine litert]

Devices are local boards (tier 0): a real sshd each, with a home, keys, a root folder of its own; the runtime and the
engine got there by `edgec devices setup`. All run on this machine, so its cores do what
twenty boards would do. The bundle is int8 EfficientNet-Lite0 for this machine (its golden answers are checked on each
board). Bar: at once ≤ 3 × the time of one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import board_user, record, zoo
from edgec.devices import Address
from edgec.devices.setup import Key, setup
from edgec.flash import plan
from edgec.flash.device import Options, Target, flash_one
from edgec.flash.fleet import Board, Outcome, flash_many
from edgec_toolchains.boards import Link, LocalBoard, prepare

RATE = 1_000_000  # bytes per second of a link
BAR = 3.0
ALONE = 3  # how often one is flashed alone
CASE = "efficientnet_lite0"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--engine", default="litert")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgec-many-") as folder, board_user.user(Path(folder)):
        figures = measure(Path(folder), given.boards, given.engine)
    for name, value in figures.items():
        print(f"{name:24} {value}")
    print(record.save("flash_many", figures, engine=given.engine, boards=given.boards, link_bytes_per_second=RATE))


def measure(folder: Path, count: int, engine: str) -> dict[str, Any]:
    bundle = zoo.compiled(CASE, "int8", folder)
    server = prepare(Path(os.environ.get("EDGEC_BOARDS") or Path(__file__).parents[1] / "build" / "boards"))
    key = board_user.key()
    with contextlib.ExitStack() as stack:
        boards: list[LocalBoard] = []
        for n in range(count):
            where = folder / f"board-{n}"
            made = LocalBoard(server, where, environment={"EDGEC_ROOT": f"{where}/home/edgec"})
            boards.append(stack.enter_context(made))
        board_user.reach(folder, {f"pi-{n}": (board, board.port) for n, board in enumerate(boards)})
        asyncio.run(_set_up(count, key, engine))
        links = [Link(board.port, bytes_per_second=RATE) for board in boards]
        stack.callback(lambda: [link.close() for link in links])
        pairs = zip(boards, links, strict=True)
        board_user.reach(folder, {f"pi-{n}": (board, link.port) for n, (board, link) in enumerate(pairs)})
        fleet = [Board(f"pi-{n}", "host", Target(f"pi-{n}", Address.parse(f"pi-{n}"))) for n in range(count)]
        alone = [_flashed(bundle, boards, fleet[n : n + 1]) for n in range(min(ALONE, count))]
        together = _flashed(bundle, boards, fleet)
    one = statistics.median(run["seconds"] for run in alone)
    return {
        "bundle_bytes": bundle.stat().st_size, "one": alone, "together": together,
        "one_seconds": one, "together_seconds": together["seconds"],
        "ratio": round(together["seconds"] / one, 2), "within_bar": together["seconds"] <= BAR * one,
        "cores": os.cpu_count(),
    }  # fmt: skip


def _flashed(bundle: Path, boards: Sequence[LocalBoard], fleet: Sequence[Board]) -> dict[str, Any]:
    """Flash boards that have the runtime and nothing else."""
    for board in boards:
        for name in ("apps", "store", "stage"):
            shutil.rmtree(board.home / "edgec" / name, ignore_errors=True)
    before = time.process_time()
    begin = time.perf_counter()
    outcomes = asyncio.run(_flash(bundle, fleet))
    seconds = time.perf_counter() - begin
    host = time.process_time() - before
    assert all(outcome.state == "ok" for outcome in outcomes), [outcome.error for outcome in outcomes]
    results = [outcome.result for outcome in outcomes]
    return {
        "seconds": round(seconds, 2),
        "transfer_seconds": round(statistics.median(each["transfer"] for each in results), 2),
        "trial_seconds": round(statistics.median(each["trial"] for each in results), 2),
        "sent": results[0]["sent"],
        "host_cpu_seconds": round(host, 2),
    }


async def _flash(bundle: Path, fleet: Sequence[Board]) -> list[Outcome]:
    with plan.open(bundle) as package:
        return await flash_many(
            fleet, lambda board, attempt: flash_one(board.device, package, Options(), tell=attempt.say)
        )


async def _set_up(count: int, key: Key, engine: str) -> None:
    room = asyncio.Semaphore(2)

    async def one(n: int) -> None:
        async with room:
            await setup(Address.parse(f"pi-{n}"), key=key, engine=engine)

    await asyncio.gather(*(one(n) for n in range(count)))


if __name__ == "__main__":
    main()
