"""The rollout engine on fleets that are made up: whatever goes wrong, it ends, and within its budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgec.flash.fleet.policy import Policy, Share
from edgec.flash.fleet.simulate import Faults, Result, Scenario, simulate

RATE = st.one_of(st.just(0.0), st.floats(0, 0.1), st.floats(0, 1))
FAULTS = st.builds(
    Faults, offline=RATE, away=st.floats(1, 20_000), gone=RATE, cut=st.floats(0, 0.6), cut_trial=st.floats(0, 0.6),
    bad_hardware=RATE, breaks=st.dictionaries(st.sampled_from(["", "rpi4", "rpi5", "rpi3"]), RATE, max_size=2),
    crashes=RATE, refuses=RATE, kills=st.integers(0, 6),
)  # fmt: skip
POLICY = st.builds(
    Policy, canary=st.one_of(st.integers(1, 40).map(str), st.integers(1, 100).map(lambda n: f"{n}%")).map(Share.parse),
    tolerated=st.sampled_from([Fraction(0), Fraction(2, 100), Fraction(1, 10), Fraction(1, 2), Fraction(1)]),
    at_once=st.integers(1, 40), attempts=st.integers(1, 5), backoff=st.floats(0.1, 100), rounds=st.integers(1, 3),
)  # fmt: skip
SCENARIO = st.builds(
    Scenario, boards=st.integers(1, 120), faults=FAULTS, policy=POLICY, seed=st.integers(0, 2**32),
    size=st.integers(0, 10_000_000), trial=st.floats(0, 60),
)  # fmt: skip


def held(result: Result, scenario: Scenario) -> None:
    """What must be true of every rollout."""
    real, told = result.world.real, {o.board.name: o for o in result.summary.outcomes}
    # It is the budget that is never exceeded, at no moment, by boards that tried the bundle and failed.
    assert result.exceeded <= 0
    assert result.broken <= max(1, scenario.boards * scenario.policy.tolerated)
    # Each board is told once, however often the host was killed.
    assert len(result.world.first) == len(set(result.world.first)) == result.tried
    # What is told is what is.
    assert len(told) + len(result.summary.untouched) == scenario.boards
    for name, board in real.items():
        state = told[name].state if name in told else "untouched"
        if state == "ok":
            assert board.runs
        elif state in ("failed", "lost"):
            assert board.broke or (state == "lost" and board.runs)
        elif state in ("refused", "untouched"):
            assert board.trials == 0
    # It ended: each board came to its end, or is off, or somebody has to decide.
    if result.state == "complete":
        assert not result.summary.untouched and result.offline == 0
    elif result.state == "halted":
        assert result.why and result.broken + result.refused + lost(result) > 0
    else:
        assert result.state == "waiting" and result.offline > 0 and not result.summary.untouched


def lost(result: Result) -> int:
    return sum(o.state == "lost" for o in result.summary.outcomes)


@given(SCENARIO)
@example(
    Scenario(
        boards=60, faults=Faults(crashes=0.5), policy=Policy(Share.parse("60"), tolerated=Fraction(1, 2), at_once=3)
    )
)
@example(Scenario(boards=50, faults=Faults(offline=1.0, gone=1.0), policy=Policy(Share.parse("10%"), at_once=4)))
@example(Scenario(boards=1, faults=Faults(breaks={"": 1.0}), policy=Policy(Share.parse("1"))))
def test_whatever_goes_wrong_it_ends_and_within_its_budget(scenario: Scenario) -> None:
    held(simulate(scenario), scenario)


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(0, 20))
@settings(max_examples=15)
def test_without_faults_every_board_is_updated_whenever_the_host_is_killed(seed: int, boards: int, kills: int) -> None:
    scenario = Scenario(boards=boards, faults=Faults(kills=kills, cut=0.2, cut_trial=0.2), seed=seed)
    result = simulate(scenario)
    held(result, scenario)
    assert result.state == "complete" and result.updated == boards


def test_the_canaries_are_the_same_with_and_without_kills_and_of_every_kind() -> None:
    calm = Scenario(boards=1000, policy=Policy(Share.parse("2%"), at_once=50))
    canaries = 20
    first = simulate(calm).world
    rough = simulate(replace(calm, faults=Faults(kills=10, cut_trial=0.1))).world
    assert set(first.first[:canaries]) == set(rough.first[:canaries])
    kinds = {board.name: board.kind for board in first.boards}
    seen = Counter(kinds[name] for name in first.first[:canaries])
    assert set(seen) == set(kinds.values()) and seen["rpi4"] >= 8


def test_the_same_seed_gives_the_same_rollout() -> None:
    scenario = Scenario(
        boards=500, faults=Faults(offline=0.1, cut=0.3, cut_trial=0.1, bad_hardware=0.01, kills=3), seed=5
    )
    assert simulate(scenario).as_dict() == simulate(scenario).as_dict()


def test_a_bundle_that_breaks_a_rare_kind_reaches_three_boards_of_it() -> None:
    scenario = Scenario(boards=20_000, faults=Faults(breaks={"rpi3": 1.0}))
    result = simulate(scenario)
    held(result, scenario)
    assert result.state == "halted" and result.broken <= 3
    assert result.tried < 200  # canaries alone


def test_an_offline_canary_is_replaced_by_another_board() -> None:
    scenario = Scenario(
        boards=200, kinds={"a": 1.0}, faults=Faults(offline=0.5, gone=1.0),
        policy=Policy(Share.parse("10"), attempts=2, at_once=200),
    )  # fmt: skip
    result = simulate(scenario, runs=1)
    held(result, scenario)
    # All that are on are updated, and none of the second wave before ten canaries were.
    assert result.updated == sum(r.away == 0 for r in result.world.real.values())
    assert result.state == "waiting"


def test_boards_that_vanish_while_they_try_it_count_as_failed() -> None:
    scenario = Scenario(boards=100, faults=Faults(crashes=1.0), policy=Policy(Share.parse("5"), attempts=2))
    result = simulate(scenario)
    held(result, scenario)
    assert result.state == "halted" and lost(result) == 1 == result.tried


@pytest.mark.parametrize(("boards", "kills"), [(20_000, 0), (10_000, 12)])
def test_a_large_fleet(boards: int, kills: int) -> None:
    faults = Faults(offline=0.03, gone=0.05, cut=0.1, cut_trial=0.01, bad_hardware=0.005, kills=kills)
    scenario = Scenario(boards=boards, faults=faults, seed=1)
    result = simulate(scenario, runs=1 + kills)
    held(result, scenario)
    assert result.state == "waiting" and result.updated > 0.98 * scenario.boards
