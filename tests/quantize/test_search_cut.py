"""The cut is the least of all assignments, and the front is monotone."""

from __future__ import annotations

from itertools import chain, combinations, pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quantize.placement.costs import Cost
from edgec.quantize.search.cut import Balance, Corner, Noise, pareto
from edgec.quantize.search.prices import Prices, Sizes
from edgec.quantize.search.search import _stretch
from edgec.quantize.search.setup import Setup, prepare
from edgec.quantize.search.stretches import stretches
from tests.quantize.search_cases import small_case


@pytest.fixture(scope="module")
def setup() -> Setup:
    case = small_case(samples=4, evaluated=2, branch=False)
    return prepare(case.model, case.data)


def balance(setup: Setup, data: st.DataObject) -> Balance:
    """Random prices and noise for the layers of the small model."""
    number = st.floats(0, 100, width=32)
    measured = {node: Cost(data.draw(number), data.draw(number)) for node in setup.names}
    weights = {name: data.draw(number) for name in setup.names.values()}
    values = {str(root.name): data.draw(number) for root in set(setup.plan.roots.values())}
    prices = Prices(measured=measured, conversions=data.draw(st.sampled_from([0.0, 0.01])))
    return Balance(setup.model, setup.plan, prices, Noise(weights, values))


@given(st.data(), st.sampled_from([0.0, 0.3, 5.0]))
@settings(max_examples=25)
def test_the_cut_is_the_least_of_all_assignments(setup: Setup, data: st.DataObject, rate: float) -> None:
    made = balance(setup, data)
    names = sorted(setup.layers)
    subsets = chain.from_iterable(combinations(names, n) for n in range(len(names) + 1))
    everything = [made.corner(frozenset(s)) for s in subsets]
    least = min(c.time + rate * c.noise for c in everything)
    found = made.cut(rate)
    assert found.time + rate * found.noise == pytest.approx(least, rel=1e-6, abs=1e-6)


@given(st.data())
@settings(max_examples=25)
def test_along_the_front_time_rises_and_noise_falls(setup: Setup, data: st.DataObject) -> None:
    made = balance(setup, data)
    front = made.front()
    assert all(a.time < b.time and a.noise > b.noise for a, b in pairwise(front[:-1]))
    assert front[-1].floats == setup.layers and all(c.time < front[-1].time for c in front[:-1])
    fastest = made.cut(0.0)
    if made.integers(fastest.floats) and fastest.time < front[-1].time:
        assert front[0].time == pytest.approx(fastest.time)
    assert all(made.integers(c.floats) for c in front[:-1]), "no conversions for nothing"
    names = sorted(setup.layers)
    for corner in front[:-1]:  # nothing is better in both
        for name in names:
            other = made.corner(corner.floats ^ {name})
            if not made.integers(other.floats):
                continue
            assert not (other.time < corner.time - 1e-6 and other.noise < corner.noise - 1e-6)


def test_without_noise_the_cut_is_that_of_worth(setup: Setup) -> None:
    from edgec.quantize.placement.worth import worthwhile

    worth = worthwhile(setup.model, setup.schemes, setup.rules, "x86_64")
    corner = Balance(setup.model, setup.plan, Prices(), Noise({}, {})).cut(0.0)
    assert set(worth.dropped) == (corner.floats & set(worth.assignment) if worth.pays else set())


def test_where_size_counts_all_is_integer(setup: Setup) -> None:
    assert Balance(setup.model, setup.plan, Sizes(), Noise({}, {})).cut(0.0).floats <= {"pool", "flat"}


def test_pareto_keeps_what_no_other_beats() -> None:
    points = [(1.0, 5.0), (2.0, 5.0), (2.0, 3.0), (3.0, 4.0), (4.0, 1.0)]
    assert pareto(points, lambda p: p) == [(1.0, 5.0), (2.0, 3.0), (4.0, 1.0)]


def test_stretches_are_one_end_of_the_model_in_float_and_quietest_first(setup: Setup) -> None:
    noise = Noise({"conv0": 0.5, "conv3": 0.1}, {})
    made = Balance(setup.model, setup.plan, Prices(known=False), noise)
    found = stretches(setup, made, frozenset())
    weighted = ["conv0", "conv1", "conv2", "conv3", "classes"]
    ends = {frozenset(weighted[:n]) for n in range(1, 5)} | {frozenset(weighted[-n:]) for n in range(1, 5)}
    assert {c.floats & set(weighted) for c in found} == ends
    assert [c.noise for c in found] == sorted(c.noise for c in found)
    assert all(made.integers(c.floats) for c in found)
    first = next(c for c in found if "conv1" in c.floats and "conv2" not in c.floats)
    assert "conv0" in first.floats and "pool" not in first.floats  # in graph order, whatever lies between
    always = stretches(setup, made, frozenset({"conv2"}))
    assert all("conv2" in c.floats for c in always)


class Verified:
    """Stands in for `Verifier`: what was measured keeps the budget up to a noise."""

    def __init__(self, measured: list[Corner], limit: float) -> None:
        self.points = {c.floats: SimpleNamespace(corner=c) for c in measured}
        self.limit, self.asked = limit, list[Corner]()

    def __call__(self, corners: list[Corner]) -> None:
        self.asked += corners

    def keeps(self, corner: Corner) -> bool:
        return corner.noise <= self.limit


@pytest.mark.parametrize(("limit", "tried"), [(2.0, ["b", "c"]), (0.0, ["a", "b"])])
def test_of_stretches_the_quietest_that_would_be_faster_are_verified(limit: float, tried: list[str]) -> None:
    offered = [Corner(frozenset(n), t, v) for n, t, v in (("a", 8, 1), ("b", 4, 2), ("c", 3, 3), ("d", 2, 4))]
    verify = Verified([Corner(frozenset("x"), 1, 9), Corner(frozenset("y"), 5, 1)], limit)
    _stretch(verify, offered, 10.0)  # type: ignore[arg-type]
    assert [sorted(c.floats)[0] for c in verify.asked] == tried
