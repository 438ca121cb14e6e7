"""Many boards at once: bounded, in order, and no board's failure is another's."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from edgec.errors import RolledBackError, UnreachableError, UnsupportedError, UsageError
from edgec.flash.fleet import Attempt, Board, Outcome, Summary, flash_many
from edgec.flash.fleet.boards import HaltedError
from edgec.flash.fleet.command import exit_code, repeated
from edgec.flash.fleet.show import Lines, Table, line


class Done:
    def __init__(self, **facts):
        self.facts = {"result": "committed", "sent": 5, **facts}

    def as_dict(self):
        return self.facts


def boards(count):
    return [Board(f"pi-{n}", "rpi4") for n in range(count)]


def test_outcomes_are_in_order_and_so_many_run_at_once():
    under, most = set(), 0

    async def one(board, attempt):
        nonlocal most
        under.add(board.name)
        most = max(most, len(under))
        await asyncio.sleep(0.001 * (10 - int(board.name[3:])))
        under.remove(board.name)
        return Done(name=board.name)

    outcomes = asyncio.run(flash_many(boards(10), one, at_once=3))
    assert [o.result["name"] for o in outcomes] == [f"pi-{n}" for n in range(10)]
    assert most == 3


def test_no_failure_is_another_boards():
    async def one(board, attempt):
        match board.name:
            case "pi-1":
                raise UnsupportedError("no payload", "it has no asimddp")
            case "pi-2":
                await attempt.activate()
                error = RolledBackError("pi-2 rolled back", "golden answers differ")
                error.flashed = Done(result="rolled-back", sent=7)
                raise error
            case "pi-3":
                raise UnreachableError("nobody answers")
            case "pi-4":
                raise ZeroDivisionError("ours")
            case "pi-5":
                attempt.say("sending", 1, 2)
                await asyncio.sleep(60)
        return Done()

    outcomes = asyncio.run(flash_many(boards(7), one, patience=0.05))
    assert [o.state for o in outcomes] == ["ok", "refused", "failed", "unreachable", "refused", "unreachable", "ok"]
    assert outcomes[2].sent == 7 and outcomes[2].error["exit_code"] == 7
    assert outcomes[4].error["code"] == "E721" and "ZeroDivisionError: ours" in outcomes[4].words
    assert "sending" in outcomes[5].words
    assert exit_code(Summary("complete", "", outcomes, [], False)) == 7


def test_a_board_is_not_flashed_twice_at_once():
    with pytest.raises(UsageError) as raised:
        asyncio.run(flash_many([*boards(2), *boards(1)], None))
    assert raised.value.code == "E226"


def test_cancelling_stops_all():
    ended = []

    async def one(board, attempt):
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(board.name)

    async def run():
        task = asyncio.create_task(flash_many(boards(4), one))
        await asyncio.sleep(0.01)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run())
    assert len(ended) == 4


@pytest.mark.parametrize(
    ("codes", "state", "code"),
    [([], "complete", 0), ([11], "waiting", 11), ([11, 4], "complete", 4), ([10, 9, 5], "complete", 5),
     ([4, 7, 11], "complete", 7), ([], "halted", 7), ([42], "complete", 42)],
)  # fmt: skip
def test_the_gravest_exit_code_counts(codes, state, code):
    outcomes = [Outcome(Board("a"), "refused", error={"exit_code": each}) for each in codes]
    assert exit_code(Summary(state, "", [Outcome(Board("b"), "ok"), *outcomes], [], False)) == code


@pytest.mark.parametrize("count", [3, 300])
def test_the_live_table_fits_a_terminal(count):
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=24)
    fleet = boards(count)
    table = Table(console, fleet, "kws 1.2 → boards")
    attempts = {}
    for board in fleet[:-1]:
        attempts[board.name] = Attempt()
        table.begun(board, attempts[board.name])
    attempts["pi-0"].say("sending", 1_000_000, 4_000_000)  # pi-1 comes first in the long table: it failed
    table.ended(Outcome(fleet[1], "failed", error={"what": "rolled back", "why": "golden\x1b[31m answers"}))
    table.waits(Outcome(fleet[1 if count == 3 else 2], "unreachable", error={"what": "off"}), 5)
    table.wave(1, 3, count, 1)
    console.print(table.render())
    text = console.file.getvalue()
    assert "sending" in text and "25 % of 4.0 MB" in text and "1 failed" in text
    assert f"up to {count} devices; 1 that fails halts it" in text
    assert len(text.splitlines()) <= 24
    assert ("more" in text) == (count == 300)


def test_lines_say_what_became_of_a_board():
    said = []
    lines = Lines(lambda text, style: said.append((text, style)))
    lines.ended(Outcome(Board("pi"), "ok", {"result": "unchanged"}, seconds=1.25))
    lines.ended(Outcome(Board("pi"), "failed", error={"what": "rolled back", "why": "crash"}, seconds=2))
    lines.waits(Outcome(Board("pi"), "unreachable", error={"what": "off"}), 5)
    lines.halted("1 board failed")
    assert said == [
        ("pi: unchanged (1.2 s)", "green"), ("pi: failed: rolled back: crash (2.0 s)", "red"),
        ("pi: off; again in 5 s", "yellow"), ("halted: 1 board failed", "red"),
    ]  # fmt: skip
    assert line(Outcome(Board("pi"), "unreachable", error={"what": "off"})) == "pi: unreachable: off"


def test_a_halted_rollout_is_told_apart_from_a_boards_failure():
    async def one(board, attempt):
        raise HaltedError("stop")

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(flash_many(boards(1), one))
    assert raised.value.subgroup(HaltedError)


def test_the_command_that_goes_on_is_the_same_rollout() -> None:
    """It is another one under another name there, with another --canary, or without one of the devices."""
    assert repeated("kws.edge", ["a", "b"], "left", "10%") == "edgec flash kws.edge --on a,b --app left --canary 10%"
    many = [f"device-{n}" for n in range(100)]
    assert repeated("kws.edge", many, None, None) == "edgec flash kws.edge --on …"
