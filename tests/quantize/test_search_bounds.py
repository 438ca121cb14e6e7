"""The bounds hold, the split is a split, and too few samples say how many it takes."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.data import Budget, Evaluation
from edgec.errors import BadInputError, BudgetError, UsageError
from edgec.quantize.search.bounds import clopper_pearson, samples_needed, upper_bound
from edgec.quantize.search.meter import Metric, halves, paired
from edgec.quantize.search.verify import chance, isotonic


def test_no_loss_in_400_bounds_the_drop_at_three_quarters_of_a_percent() -> None:
    assert clopper_pearson(0, 400, 0.95) == pytest.approx(0.00746, abs=1e-5)
    assert samples_needed(0.0075, 0.95) == 398
    assert clopper_pearson(0, samples_needed(0.005, 0.95), 0.95) <= 0.005 < clopper_pearson(0, 597, 0.95)


@given(st.integers(1, 300), st.data(), st.sampled_from([0.6, 0.9, 0.95, 0.99]))
@settings(max_examples=60)
def test_clopper_pearson_is_exact(n: int, data: st.DataObject, confidence: float) -> None:
    """At the bound, seeing so few events has exactly the probability that is left."""
    events = data.draw(st.integers(0, n - 1))
    bound = clopper_pearson(events, n, confidence)
    at_most = sum(math.comb(n, k) * bound**k * (1 - bound) ** (n - k) for k in range(events + 1))
    assert at_most == pytest.approx(1 - confidence, rel=1e-6)


def test_the_bound_by_betting_covers_the_true_mean() -> None:
    """Of 200 experiments with a known drop, at most 5 % (and chance) give a bound under it; more samples tighten it."""
    rng = np.random.default_rng(0)
    wrong, widths = 0, []
    for _ in range(200):
        losses = rng.choice([-0.5, 0.0, 0.25, 1.0], 120, p=[0.05, 0.8, 0.1, 0.05])
        bound = upper_bound(losses, 0.95, binary=False)
        wrong += bound < 0.05
        widths.append(bound - 0.05)
    assert wrong <= 18  # P(Binomial(200, .05) > 18) < 1 %
    assert np.mean(widths) < 0.12
    assert upper_bound(np.zeros(4000), 0.95, binary=False) < upper_bound(np.zeros(100), 0.95, binary=False) < 0.06


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=60))
@settings(max_examples=60)
def test_bounds_are_never_under_what_was_seen_and_don_t_depend_on_the_order(losses: list[float]) -> None:
    for binary in (True, False):
        bound = upper_bound(losses, 0.9, binary=binary)
        assert bound >= np.mean(losses) - 1e-9
        assert bound == pytest.approx(upper_bound(losses[::-1], 0.9, binary=binary), abs=1e-9)


def test_differences_outside_the_range_are_refused() -> None:
    with pytest.raises(ValueError, match="paired"):
        upper_bound([1.5], 0.9, binary=False)
    with pytest.raises(ValueError, match="paired"):
        upper_bound([], 0.9, binary=True)


@given(st.integers(2, 500), st.integers(0, 5))
@settings(max_examples=40)
def test_halves_share_nothing_and_miss_nothing(n: int, seed: int) -> None:
    first, second = halves(n, seed)
    assert sorted(first + second) == list(range(n))
    assert first == sorted(first) and second == sorted(second)
    assert 0 <= len(second) - len(first) <= 1
    assert halves(n, seed) == (first, second)


@given(st.lists(st.floats(-1, 1), max_size=30))
def test_isotonic_never_falls_and_keeps_the_mean(values: list[float]) -> None:
    fitted = isotonic(values)
    assert len(fitted) == len(values)
    assert all(a <= b + 1e-12 for a, b in pairwise(fitted))
    assert np.sum(fitted) == pytest.approx(np.sum(values), abs=1e-9)


RIGHT = np.random.default_rng(3).random(400) < 0.9


def evaluation(*, split: bool = True, wrong: frozenset[int] = frozenset()) -> Evaluation:
    """Right or wrong on 400 samples; a run that answers 1 loses those in `wrong`."""

    def score(run, indices=None):
        chosen = list(range(400)) if indices is None else list(indices)
        lost = bool(run({"x": np.zeros(1, np.float32)})[0][0])
        values = [float(RIGHT[i] and not (lost and i in wrong)) for i in chosen]
        return {"metric": "top1", "value": float(np.mean(values)), "n": len(values), "per_sample": values}

    return Evaluation(score if split else lambda run: score(run), "test")


def answers(number: float):
    return lambda feed: [np.array([number], np.float32)]


def test_a_half_reads_only_its_own_samples() -> None:
    first, second = halves(400, 0)
    lost = frozenset(i for i in first if RIGHT[i])
    searched = Metric(evaluation(wrong=lost), answers(0))
    confirming = Metric(evaluation(wrong=lost), answers(0), 0, "confirm")
    assert searched(answers(1)).value == 0 and searched(answers(1)).n == 200
    reading = confirming(answers(1))
    assert reading.drop == 0 and reading.binary and reading.losses is not None and len(reading.losses) == len(second)
    assert searched.digest != confirming.digest


def test_too_few_samples_for_a_confidence_say_how_many_it_takes() -> None:
    metric = Metric(evaluation(), answers(0))
    metric.demand(Budget.parse("2pt"), 0.95)
    with pytest.raises(BudgetError, match="too few samples") as problem:
        metric.demand(Budget.parse("0.5pt"), 0.95)
    assert str(2 * samples_needed(0.005, 0.95)) in problem.value.fix
    with pytest.raises(BudgetError, match="too few samples"):
        metric.demand(Budget.parse("0"), 0.95)


def test_a_metric_that_can_t_be_split_has_no_confidence_but_a_value() -> None:
    metric = Metric(evaluation(split=False), answers(0))
    assert not metric.split
    assert metric(answers(0)).n == 400
    with pytest.raises(UsageError, match="--confidence"):
        metric.demand(Budget.parse("1%"), 0.95)


def test_values_per_sample_whose_mean_is_another_are_no_pairs() -> None:
    """A corpus-wide metric with some numbers per sample: only its value counts."""

    def f1(run, indices=None):
        return {"metric": "f1", "value": 0.5, "n": 2, "per_sample": [1.0, 1.0]}

    assert not Metric(Evaluation(f1, "f1"), answers(0)).split


def test_a_reading_keeps_the_budget_by_its_bound() -> None:
    reading = paired("top1", [1.0] * 400, [1.0] * 399 + [0.0])
    assert reading.drop == pytest.approx(0.0025)
    assert reading.keeps(Budget.parse("0.5%"), None)
    assert not reading.keeps(Budget.parse("0.5%"), 0.95)
    assert reading.keeps(Budget.parse("1.2%"), 0.95)


def test_the_chance_of_being_confirmed_falls_with_the_drop_and_rises_with_samples() -> None:
    def seen(n: int, lost: int) -> float:
        reading = paired("top1", [1.0] * n, [0.0] * lost + [1.0] * (n - lost))
        return chance(reading, 0.01, reading.drop)

    assert 1 > seen(400, 0) > seen(400, 2) > 0.5 > seen(400, 8)
    assert seen(4000, 20) > seen(400, 2)
    assert chance(paired("iou", [0.5] * 4, [0.5] * 4), 0.0, 0.0) == 1.0


def test_a_chance_is_what_other_samples_do() -> None:
    """Simulated: points that are likely to be confirmed on as many other samples are, the unlikely ones far less."""
    rng = np.random.default_rng(5)
    chances, confirmed = [], []
    for _ in range(600):
        rate = rng.uniform(0.0, 0.03)
        halves = rng.random((2, 300)) < rate
        gains = (rng.random((2, 300)) < rate * 0.7) & ~halves
        drop = halves.astype(float) - gains
        reading = paired("top1", (drop[0] >= 0).astype(float), (drop[0] <= 0).astype(float))
        chances.append(chance(reading, 0.01, reading.drop))
        confirmed.append(drop[1].mean() <= 0.01)
    likely = np.array(chances) > 0.8
    assert likely.sum() > 50 and np.mean(np.array(confirmed)[likely]) > 0.75
    unlikely = np.array(chances) < 0.5
    assert np.mean(np.array(confirmed)[unlikely]) < np.mean(np.array(confirmed)[likely]) - 0.15


def test_a_metric_function_that_raises_or_gives_nan_is_named() -> None:
    def raises(run):
        raise ZeroDivisionError("no boxes")

    with pytest.raises(BadInputError, match="raised") as problem:
        Metric(Evaluation(raises, "mine.py:raises"), answers(0))
    assert "no boxes" in problem.value.why
    with pytest.raises(BadInputError) as nan:
        Metric(Evaluation(lambda run: {"metric": "m", "value": math.nan, "n": 1}, "mine.py:nan"), answers(0))
    assert "nan" in nan.value.why
