"""Who may be at risk: the budget is never exceeded, and a bad kind is noticed after few boards."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.errors import UsageError
from edgec.flash.fleet.boards import Board
from edgec.flash.fleet.budget import Budget, evidence
from edgec.flash.fleet.policy import Policy, Share
from edgec.flash.fleet.waves import ordered, quotas

TWO = Fraction(2, 100)


@pytest.mark.parametrize(
    ("text", "fleet", "boards"),
    [("10%", 20, 2), ("10 %", 21, 3), ("0.5%", 100_000, 500), ("1%", 3, 1), ("100%", 7, 7), ("3", 2, 2), ("3", 9, 3)],
)
def test_a_share_is_a_part_or_a_number(text: str, fleet: int, boards: int) -> None:
    assert Share.parse(text).boards(fleet) == boards


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "1.5", "ten", "10%%", "1e3", "٣"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Share.parse(text)
    assert raised.value.code == "E223"


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400), min_size=1),
    st.one_of(st.integers(1, 500).map(str), st.integers(1, 100).map(lambda n: f"{n}%")),
)
def test_each_wave_has_every_kind_and_the_last_has_all(kinds: dict[str, int], canary: str) -> None:
    waves = quotas(kinds, Policy(Share.parse(canary)))
    assert waves[-1] == kinds and 1 <= len(waves) <= 3
    for wave, after in itertools.pairwise(waves):
        assert all(1 <= wave[kind] <= after[kind] for kind in kinds) and wave != after
    fleet = sum(kinds.values())
    assert sum(waves[0].values()) == max(Share.parse(canary).boards(fleet), sum(waves[0].values()))
    assert sum(waves[0].values()) <= Share.parse(canary).boards(fleet) + len(kinds)  # at least one of each


def test_the_order_is_the_same_for_a_bundle_and_another_for_another() -> None:
    boards = [Board(f"pi-{n}") for n in range(50)]
    first = ordered(boards, "a" * 64)
    assert first == ordered(boards[::-1], "a" * 64)
    assert first != ordered(boards, "b" * 64)
    assert sorted(b.name for b in first) == sorted(b.name for b in boards)


@given(
    st.integers(0, 2**32), st.integers(1, 400), st.floats(0, 1), st.integers(1, 5), st.sampled_from([0, 1, 2, 10, 50])
)
def test_failed_and_at_risk_never_exceed_the_limit(seed: int, boards: int, rate: float, kinds: int, part: int) -> None:
    chance, names = random.Random(seed), "abcde"[:kinds]
    budget = Budget(Fraction(part, 100), 0.001, dict.fromkeys(names, boards))
    budget.wave(boards)
    assert budget.limit == max(1, boards * part // 100)
    under: list[str] = []
    for _ in range(boards):
        kind = chance.choice(names)
        budget.ask(kind, lambda yes, kind=kind: yes and not under.append(kind))  # type: ignore[misc]
        assert budget.failed + budget.at_risk <= budget.limit
        while under and chance.random() < 0.6:
            budget.settle(under.pop(0), ok=chance.random() >= rate, risked=True)
            assert budget.failed + budget.at_risk <= budget.limit
    assert budget.failed < budget.limit or budget.why


def test_a_kind_starts_with_one_board_and_doubles() -> None:
    budget = Budget(Fraction(1, 2), 0.001, {"a": 100})
    budget.wave(100)
    granted: list[bool] = []
    for _ in range(20):
        budget.ask("a", lambda yes: not granted.append(yes))
    seen = [len(granted)]
    for _ in range(4):
        for _ in range(seen[-1] - sum(seen[:-1]) if len(seen) == 1 else seen[-1] - seen[-2]):
            budget.settle("a", ok=True, risked=True)
        seen.append(len(granted))
    assert seen == [1, 2, 4, 8, 16]


def test_halting_answers_whoever_waits() -> None:
    budget = Budget(TWO, 0.001, {"a": 100})
    budget.wave(10)
    said: list[bool] = []
    for _ in range(3):
        budget.ask("a", lambda yes: not said.append(yes))
    assert said == [True]
    budget.settle("a", ok=False, risked=True)
    assert said == [True, False, False] and "1 board failed" in budget.why
    budget.ask("a", lambda yes: not said.append(yes))
    assert said[-1] is False


def test_a_permit_that_nobody_wants_any_more_goes_to_the_next() -> None:
    budget = Budget(TWO, 0.001, {"a": 100})
    budget.wave(10)
    said: list[str] = []
    budget.ask("a", lambda yes: True)
    budget.ask("a", lambda yes: False)
    budget.ask("a", lambda yes: not said.append("third"))
    budget.settle("a", ok=True, risked=True)
    assert said == ["third"] and budget.at_risk == 1


def test_a_kind_that_always_fails_halts_after_three_boards() -> None:
    budget = Budget(TWO, 0.001, {"good": 900, "bad": 100})
    budget.wave(1000)
    tried = 0
    while not budget.why and tried < 20:
        budget.settle("good", ok=True, risked=False)
        budget.settle("bad", ok=False, risked=False)
        tried += 1
    assert tried == 3 and "3 of 3 boards of kind bad" in budget.why


def test_boards_that_fail_as_often_as_tolerated_seldom_halt_by_evidence() -> None:
    # Ville: at most `doubt` of all rollouts, however long; here with a tenth instead of a thousandth.
    chance, halted = random.Random(7), 0
    for _ in range(300):
        failed = ok = 0
        for _ in range(300):
            if chance.random() < 0.02:
                failed += 1
            else:
                ok += 1
            if failed > 1 and evidence(failed, ok, 0.02) >= 10:
                halted += 1
                break
    assert halted <= 30 + 3 * 30**0.5 / 2


def test_evidence_of_nothing_is_one_and_of_good_boards_less() -> None:
    assert evidence(0, 0, 0.02) == pytest.approx(1)
    assert evidence(0, 50, 0.02) < 0.1
    assert evidence(1, 0, 0.0) > 1e9
