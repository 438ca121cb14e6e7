"""The choice between int8 and float32, from measured values alone."""

from __future__ import annotations

import pytest

from edgec.decide import decide
from edgec.errors import BudgetError
from edgec.measure.accuracy import Accuracy


def of(value: float) -> dict[str, Accuracy | None]:
    return {"float32": Accuracy("top1", 0.9, 0.9, 100), "int8": Accuracy("top1", value, 0.9, 100)}


def test_int8_within_the_budget_and_faster_is_taken() -> None:
    made = decide("b", precision="auto", max_drop="1pt", accuracies=of(0.895), time_ratio=0.5)
    assert made.precision == "int8"
    assert "2.00 ×" in made.why


@pytest.mark.parametrize(("value", "ratio"), [(0.88, 0.5), (0.9, 1.2)], ids=["over the budget", "slower than float"])
def test_int8_that_breaks_a_promise_is_left_out_with_the_reason(value: float, ratio: float) -> None:
    made = decide("b", precision="auto", max_drop="1pt", accuracies=of(value), time_ratio=ratio)
    assert made.precision == "float32"
    assert "left out" in made.why


def test_unmeasured_speed_is_said() -> None:
    assert "not measured" in decide("b", precision="auto", max_drop=None, accuracies=of(0.9), time_ratio=None).why


def test_accuracy_that_could_not_be_measured_is_no_int8() -> None:
    assert (
        decide(
            "b", precision="auto", max_drop=None, accuracies={"int8": None, "float32": None}, time_ratio=None
        ).precision
        == "float32"
    )


def test_int8_by_name_with_a_budget_is_a_contract() -> None:
    with pytest.raises(BudgetError, match="does not keep the budget") as caught:
        decide("b", precision="int8", max_drop="1pt", accuracies=of(0.85), time_ratio=None)
    assert caught.value.exit_code == 3


def test_int8_by_name_without_a_budget_states_the_value() -> None:
    made = decide("b", precision="int8", max_drop=None, accuracies=of(0.5), time_ratio=None)
    assert made.precision == "int8"
    assert "without a budget; top1 0.5 against 0.9" in made.why


def test_int8_that_is_neither_measured_nor_smaller_is_left_out() -> None:
    """Scales and zero points outweigh the weights of a tiny model, and its calls cost more."""
    asked = {"precision": "auto", "max_drop": None, "accuracies": of(0.9)}
    assert decide("b", **asked, time_ratio=None, size_ratio=1.7).precision == "float32"
    assert decide("b", **asked, time_ratio=None, size_ratio=0.4).precision == "int8"
    assert decide("b", **asked, time_ratio=0.5, size_ratio=1.7).precision == "int8"  # faster all the same
