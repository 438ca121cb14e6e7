"""A rollout and its history: gone on with after kill -9, halted, decided, and what is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from fractions import Fraction

import pytest

from edgec.errors import BadInputError, Error, RolledBackError, UnreachableError, UsageError
from edgec.flash.fleet import Board, Bundle, History, Policy, Rollout, Share
from edgec.flash.fleet.boards import HaltedError
from edgec.flash.fleet.history import alone, key, path

BUNDLE = Bundle("ab" * 32, "kws", "1.0")


class Done:
    def __init__(self, result="committed"):
        self.result = result

    def as_dict(self):
        return {"result": self.result, "sent": 3}


def fleet(count, kinds=("rpi4", "rpi5")):
    return [Board(f"pi-{n:03}", kinds[n % len(kinds)]) for n in range(count)]


def policy(canary="2", **changes):
    return Policy(Share.parse(canary), **{"attempts": 2, "backoff": 0.001, "rounds": 1, **changes})


class Fakes:
    """Boards that do as they are told, and remember what was done with them."""

    def __init__(self, **how):
        self.how, self.tried, self.called = how, [], []

    async def __call__(self, board, attempt):
        self.called.append(board.name)
        how = self.how.get(board.name.replace("-", "_"), self.how.get("all", "ok"))
        if how == "off":
            raise UnreachableError("nobody answers", code="E1100")
        if how == "stranger":
            raise UnreachableError("unknown host key", code="E1101")
        await attempt.activate()
        self.tried.append(board.name)
        await asyncio.sleep(0)
        if how == "vanish":
            raise UnreachableError("gone", code="E1104")
        if how == "bad":
            raise RolledBackError(f"{board.name} rolled back", "golden answers differ")
        return Done()


def roll(boards, flash_one, history, **how):
    how = {"bundle": BUNDLE, "policy": policy(), **how}
    return asyncio.run(Rollout(boards, flash_one, history=history, **how).run())


@pytest.fixture
def history(tmp_path):
    made = History(tmp_path / "config" / "rollouts.sqlite")
    yield made
    made.close()


def test_waves_and_outcomes(history):
    flash, boards = Fakes(), fleet(30)
    done = roll(boards, flash, history)
    assert done.state == "complete" and [o.state for o in done.outcomes] == ["ok"] * 30 and not done.resumed
    assert [o.board for o in done.outcomes] == boards and done.outcomes[0].sent == 3
    assert {b.kind for b in boards if b.name in flash.tried[:2]} == {"rpi4", "rpi5"}
    # Another run is a new rollout, with the same canaries.
    again = Fakes()
    assert roll(boards[::-1], again, history).state == "complete" and again.tried[:2] == flash.tried[:2]
    other = Fakes()
    roll(boards, other, history, bundle=Bundle("cd" * 32))
    assert other.tried[:2] != flash.tried[:2]


def test_a_failed_canary_halts_and_somebody_decides(history):
    boards = fleet(20)
    canary = Fakes(all="bad")
    halted = roll(boards, canary, history)
    assert halted.state == "halted" and len(canary.tried) == 1 and len(halted.untouched) == 19
    assert "1 board failed" in halted.why
    with pytest.raises(HaltedError) as raised:
        roll(boards, Fakes(), history)
    assert raised.value.exit_code == 7 and "1 board failed" in raised.value.why and "--continue" in raised.value.fix
    mended = Fakes()
    done = roll(boards, mended, history, go_on=True)
    assert done.state == "complete" and done.resumed
    # What failed is not tried again, and counts no more.
    assert canary.tried[0] not in mended.called and len(mended.tried) == 19
    with pytest.raises(UsageError) as nothing:
        roll(boards, Fakes(), history, go_on=True)
    assert nothing.value.code == "E228"


def test_after_a_decision_the_budget_counts_anew(history):
    boards = fleet(10)
    roll(boards, Fakes(all="bad"), history)
    again = Fakes(all="bad")
    second = roll(boards, again, history, go_on=True)
    assert second.state == "halted" and len(again.tried) == 1 and len(second.untouched) == 8


def test_unreachable_boards_are_retried_and_fail_nothing(history):
    boards = fleet(12)
    flash = Fakes(pi_001="off", pi_002="stranger", pi_003="off")
    done = roll(boards, flash, history, policy=policy(rounds=2))
    states = {o.board.name: o.state for o in done.outcomes}
    assert done.state == "waiting" and [n for n, s in states.items() if s != "ok"] == ["pi-001", "pi-002", "pi-003"]
    assert flash.called.count("pi-001") == 4 and flash.called.count("pi-002") == 2  # a login is not mended by waiting
    later = Fakes()
    rest = roll(boards, later, history, policy=policy(rounds=2))
    assert rest.state == "complete" and rest.resumed and sorted(later.called) == ["pi-001", "pi-002", "pi-003"]


def test_a_board_that_vanishes_while_it_tries_the_bundle_failed(history):
    boards = fleet(4, kinds=("rpi4",))
    flash = Fakes(all="vanish")
    done = roll(boards, flash, history, policy=policy("1"))
    assert done.state == "halted" and [o.state for o in done.outcomes] == ["lost"]
    assert len(flash.called) >= 2 and len(set(flash.tried)) == 1


def test_a_board_whose_link_is_lost_while_it_waits_for_its_permit(history):
    """It asks again over the next connection; the first request is not another board's permit."""
    boards = fleet(6, kinds=("rpi4",))
    flash, lost = Fakes(), []

    async def one(board, attempt):
        if board.name not in lost:
            lost.append(board.name)
            waiting = asyncio.ensure_future(attempt.activate())
            await asyncio.sleep(0)
            if not waiting.done():
                if len(lost) % 2:
                    raise UnreachableError("lost", code="E1104")  # and nobody waits for the answer
                await attempt.activate()
            await waiting
        return await flash(board, attempt)

    done = roll(boards, one, history, policy=policy("6", attempts=3))
    assert done.state == "complete" and sorted(flash.tried) == [b.name for b in boards]
    assert {o.state for o in done.outcomes} == {"ok"} and len(lost) == 6


def test_an_empty_fleet_is_complete(history):
    assert roll([], Fakes(), history).state == "complete"


def test_what_is_refused(history):
    boards = fleet(6)
    with pytest.raises(UsageError) as twice:
        roll([*boards, boards[0]], Fakes(), history)
    assert twice.value.code == "E226" and "pi-000" in twice.value.what
    roll(boards, Fakes(pi_000="off"), history)
    with pytest.raises(UsageError) as other:
        roll(boards, Fakes(), history, policy=policy("50%"))
    assert other.value.code == "E227" and "--canary 2" in other.value.what
    with pytest.raises(UsageError) as running:
        roll(boards, Fakes(), history, go_on=True)
    assert running.value.code == "E228"
    assert roll(boards, Fakes(), history).state == "complete"


def test_no_board_is_begun_where_the_history_can_not_be_kept(history, tmp_path):
    boards, flash = fleet(40), Fakes()
    history._db.execute(
        "CREATE TRIGGER full BEFORE INSERT ON boards WHEN (SELECT count(*) FROM boards) >= 5"
        " BEGIN SELECT raise(ABORT, 'database or disk is full'); END"
    )
    with pytest.raises(BadInputError) as raised:
        roll(boards, flash, history, policy=policy("40", tolerated=Fraction(1), at_once=1))
    assert raised.value.code == "E225" and "full" in raised.value.why
    # Five boards were told, each after that was kept; what became of the fifth could not be, so nothing went on.
    assert len(flash.tried) == 5
    history._db.execute("DROP TRIGGER full")
    rest = Fakes()
    assert roll(boards, rest, history, policy=policy("40", tolerated=Fraction(1), at_once=1)).state == "complete"
    assert rest.tried[0] == flash.tried[-1] and len(rest.tried) == 36


@pytest.mark.parametrize("damage", [b"this is no database, and it is long enough to be read as one" * 40, None])
def test_a_history_that_can_not_be_used_is_said(tmp_path, damage):
    where = tmp_path / "rollouts.sqlite"
    if damage is None:
        with sqlite3.connect(where) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        where.write_bytes(damage)
    with pytest.raises(Error) as raised:
        History(where)
    assert raised.value.code == "E225" and str(where) in raised.value.what


def test_one_process_at_a_time(tmp_path):
    name = key(BUNDLE, fleet(2))
    with alone(name, tmp_path), pytest.raises(UsageError) as raised, alone(name, tmp_path):
        pass
    assert raised.value.code == "E224"
    with alone(name, tmp_path):
        pass


def test_the_history_is_beside_the_inventory(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEC_CONFIG", str(tmp_path))
    assert path() == tmp_path / "rollouts.sqlite"


HOST = """
import asyncio, os, sys
from pathlib import Path
from fractions import Fraction
from edgec.errors import RolledBackError
from edgec.flash.fleet import *

folder = Path(sys.argv[1])

class Done:
    def as_dict(self): return {"result": "committed", "sent": 1}

async def flash_one(board, attempt):
    # A board is a file: a line for each time that it was told to try the bundle.
    file = folder / board.name
    if file.exists():
        return Done()
    await attempt.activate()
    with open(file, "a") as out: out.write(sys.argv[2] + "\\n")
    await asyncio.sleep(0.002)
    if board.name.endswith("7"): raise RolledBackError("rolled back", "bad")
    return Done()

boards = [Board(f"pi-{n:03}", f"kind-{n % 3}") for n in range(60)]
history = History(folder / "history" / "rollouts.sqlite")
policy = Policy(Share.parse("10%"), tolerated=Fraction(1, 2), doubt=1e-9, at_once=8)
print(asyncio.run(Rollout(boards, flash_one, bundle=Bundle("ab" * 32), policy=policy, history=history).run()).state)
"""


def test_kill_9_of_the_host_anywhere(tmp_path):
    """The process itself is killed, at times that move on; the rollout ends all the same, each board tried once."""
    command = [sys.executable, "-c", HOST, str(tmp_path)]
    killed = 0
    for run in range(40):
        process = subprocess.Popen([*command, str(run)], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        count = len(list(tmp_path.glob("pi-*")))
        # Not by the clock: as soon as it got some boards further, which another time is elsewhere in its work.
        while process.poll() is None and len(list(tmp_path.glob("pi-*"))) < count + 5 + run % 5:
            time.sleep(0.0005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        said = process.communicate()[0]
        if process.returncode == 0:
            break
    assert said == "complete\n" and killed >= 4
    tried = {file.name: file.read_text().splitlines() for file in tmp_path.glob("pi-*")}
    assert len(tried) == 60 and all(len(lines) <= 1 for lines in tried.values())
    history = History(tmp_path / "history" / "rollouts.sqlite")
    record = history.last(key(Bundle("ab" * 32), [Board(f"pi-{n:03}") for n in range(60)]))
    assert record is not None and record.state == "complete" and record.id == 1
    states = {line.name: line.state for line in history.lines(record.id)}
    history.close()
    assert set(states.values()) <= {"ok", "failed"} and len(states) == 60
