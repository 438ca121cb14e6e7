import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.data import Budget, Evaluation, agreement, cosine, sqnr_db
from edgec.data.metrics import reported_db
from edgec.errors import BadInputError, UnsupportedError, UsageError


@pytest.mark.parametrize(
    ("text", "drop", "relative"),
    [("0.5%", 0.005, True), ("0.5pt", 0.005, False), ("1pts", 0.01, False), ("0.005", 0.005, False), (" 0 ", 0, False)],
)
def test_budget_forms(text, drop, relative):
    assert Budget.parse(text) == Budget(pytest.approx(drop), relative)


@pytest.mark.parametrize("text", ["", "five", "-1%", "0.5 percent", "nan", "inf", "1e-3", "5", "101%", "٣%"])
def test_budget_refuses(text):
    with pytest.raises(UsageError):
        Budget.parse(text)


def test_budget_relative_and_absolute_floors():
    assert Budget.parse("1%").floor(0.9) == pytest.approx(0.891)
    assert Budget.parse("1pt").floor(0.9) == pytest.approx(0.89)
    assert Budget.parse("1%").floor(-2.0) == pytest.approx(-2.02)  # higher is better, also below zero


def test_budget_allows_a_tie_but_not_nan():
    assert Budget.parse("0").allows(0.7, 0.7)
    assert not Budget.parse("0").allows(0.7, 0.6999)
    assert not Budget.parse("100%").allows(0.7, math.nan)


@given(st.floats(0, 1), st.floats(-10, 10), st.floats(0, 1))
def test_budget_never_refuses_an_improvement(drop, value, gain):
    assert Budget(drop, True).allows(value, value + gain)
    assert Budget(drop, False).allows(value, value + gain)


def test_sqnr_is_the_textbook_ratio():
    reference = np.array([3.0, 4.0], np.float32)
    assert sqnr_db(reference, reference + np.array([0.5, 0.0], np.float32)) == pytest.approx(20.0)
    assert sqnr_db([reference, reference], [reference, reference]) == math.inf
    assert sqnr_db(np.zeros(2), np.ones(2)) == -math.inf
    assert math.isnan(sqnr_db(reference, np.array([np.nan, 0], np.float32)))


def test_sqnr_sums_in_float64():
    reference = np.full(1000, 1e25, np.float32)  # squares overflow float32
    assert sqnr_db(reference, reference * np.float32(0.9)) == pytest.approx(20.0, abs=1e-4)


def test_cosine():
    assert cosine(np.array([1.0, 0]), np.array([1.0, 1.0])) == pytest.approx(math.sqrt(0.5))
    assert cosine(np.zeros(3), np.zeros(3)) == 1.0
    assert cosine(np.zeros(3), np.ones(3)) == 0.0


def test_agreement_of_classes_positions_and_probabilities():
    a = [np.array([[0.1, 0.9]])], [np.array([[0.8, 0.2]])]
    b = [np.array([[0.2, 0.8]])], [np.array([[0.3, 0.7]])]
    assert agreement(a, b).per_sample == (1.0, 0.0)
    dense = [[np.array([[[1, 0], [0, 1]]])]], [[np.array([[[1, 0], [1, 0]]])]]
    assert agreement(*dense).value == 0.5
    assert agreement([[np.array([0.9])]], [[np.array([0.6])]]).value == 1.0
    with pytest.raises(ValueError, match="samples"):
        agreement(a, [])


def test_evaluation_reads_the_answer():
    def evaluate(run, indices=None):
        n = 4 if indices is None else len(indices)
        return {"metric": "top1", "value": float(run({})[0]), "n": n, "per_sample": [1.0] * n, "top5": 1}

    e = Evaluation(evaluate, "here")
    assert e.splittable
    score = e.score(lambda feed: [np.float32(0.5)])
    assert (score.metric, score.value, score.n, score.per_sample) == ("top1", 0.5, 4, (1.0,) * 4)
    assert score.extra == {"top5": 1.0}
    assert e.score(lambda feed: [np.float32(0.5)], indices=[0, 2]).n == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        0.5,
        {"value": 1, "n": 1},
        {"metric": "m", "value": math.nan, "n": 1},
        {"metric": "m", "value": "1", "n": 1},
        {"metric": "m", "value": True, "n": 1},
        {"metric": "m", "value": 1.0, "n": 0},
        {"metric": "m", "value": 1.0, "n": 2, "per_sample": [1.0]},
        {"metric": "m", "value": 1.0, "n": 1, "per_sample": [math.inf]},
    ],
)
def test_evaluation_refuses_an_answer_that_is_none(answer):
    with pytest.raises(BadInputError, match="evaluation"):
        Evaluation(lambda run: answer, "here").score(lambda feed: [])


def test_evaluation_that_raises_is_told_with_its_words():
    def evaluate(run):
        raise KeyError("labels")

    with pytest.raises(BadInputError) as e:
        Evaluation(evaluate, "metric.py:evaluate").score(lambda feed: [])
    assert "KeyError" in e.value.why and "metric.py:evaluate" in e.value.what


def test_errors_of_the_engine_inside_run_pass_through():
    def run(feed):
        raise UnsupportedError("engine")

    with pytest.raises(UnsupportedError):
        Evaluation(lambda run: run({}), "here").score(run)


def test_indices_need_a_function_that_takes_them():
    e = Evaluation(lambda run: {}, "here")
    assert not e.splittable
    with pytest.raises(BadInputError):
        e.score(lambda feed: [], indices=[1])


def test_reported_decibels_are_json():
    assert [reported_db(v) for v in (np.inf, -np.inf, np.nan, 12.345)] == [200.0, -200.0, None, 12.35]
