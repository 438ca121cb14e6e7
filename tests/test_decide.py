"""The choice between precisions and engines, from measured values alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec.decide import Decision, Option, decide, fall_back
from edgec.errors import BudgetError
from edgec.measure.accuracy import Accuracy


def option(
    precision: str, value: float | None, time: float | None = None, engine: str = "onnxruntime", size: int = 0
) -> Option:
    accuracy = None if value is None else Accuracy("top1", value, 0.9, 100)
    return Option(precision, engine, accuracy, size, time)


def of(value: float | None, time: float | None = None, ratio: float | None = None) -> list[Option]:
    """float32 and int8 of one engine, with int8's time and size over float32's."""
    return [
        option("float32", 0.9, None if time is None else 1.0, size=1000),
        option("int8", value, time, size=0 if ratio is None else int(1000 * ratio)),
    ]


def made(options: list[Option], **asked: Any) -> Decision:
    return decide("b", options, **{"precision": "auto", "max_drop": None, **asked})


def test_int8_within_the_budget_and_faster_is_taken() -> None:
    found = made(of(0.895, 0.5), max_drop="1pt")
    assert (found.precision, found.engines) == ("int8", ("onnxruntime",))
    assert "2.00 ×" in found.why


@pytest.mark.parametrize(("value", "ratio"), [(0.88, 0.5), (0.9, 1.2)], ids=["over the budget", "slower than float"])
def test_int8_that_breaks_a_promise_is_left_out_with_the_reason(value: float, ratio: float) -> None:
    found = made(of(value, ratio), max_drop="1pt")
    assert found.precision == "float32"
    assert "left out" in found.why


def test_unmeasured_speed_is_said() -> None:
    assert "not measured" in made(of(0.9)).why


def test_accuracy_that_could_not_be_measured_is_no_int8() -> None:
    assert made(of(None)).precision == "float32"


def test_int8_by_name_with_a_budget_is_a_contract() -> None:
    with pytest.raises(BudgetError, match="does not keep the budget") as caught:
        made(of(0.85), precision="int8", max_drop="1pt")
    assert caught.value.exit_code == 3


def test_a_budget_without_data_says_what_is_missing() -> None:
    with pytest.raises(BudgetError, match="not known") as caught:
        made([option("float16", None)], precision="float16", max_drop="1pt")
    assert "--calib" in caught.value.fix and caught.value.exit_code == 3


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic", "int4-weights", "float16"])
def test_by_name_without_a_budget_states_the_value(precision: str) -> None:
    found = made([option(precision, 0.5)], precision=precision)
    assert found.precision == precision
    assert "without a budget; top1 0.5 against 0.9" in found.why


def test_int8_that_is_neither_measured_nor_smaller_is_left_out() -> None:
    """Scales and zero points outweigh the weights of a tiny model, and its calls cost more."""
    assert made(of(0.9, ratio=1.7)).precision == "float32"
    assert made(of(0.9, ratio=0.4)).precision == "int8"
    assert made(of(0.9, 0.5, ratio=1.7)).precision == "int8"  # faster all the same


def test_on_the_board_that_was_measured_the_fastest_engine_ships_alone() -> None:
    options = [
        option("float32", 0.9, 1.0), option("float32", 0.9, 0.7, "litert"),
        option("int8", 0.9, 0.5), option("int8", 0.9, 0.3, "litert"),
    ]  # fmt: skip
    assert (made(options).precision, made(options).engines) == ("int8", ("litert",))
    slow = [*options[:2], option("int8", 0.9, 0.8)]
    assert (made(slow).precision, made(slow).engines) == ("float32", ("litert",))
    assert "1.14 × litert's float32's time" in made(slow).why


def test_elsewhere_every_engine_that_keeps_the_budget_ships_in_order() -> None:
    options = [
        option("float32", 0.9, size=9), option("int8", 0.9, engine="litert", size=3), option("int8", 0.9, size=3),
        option("int8", 0.2, engine="third", size=3),
    ]  # fmt: skip
    assert made(options).engines == ("litert", "onnxruntime")


def test_another_form_steps_in_where_static_ranges_lose_too_much() -> None:
    options = [option("float32", 0.9, 1.0), option("int8", 0.5, 0.3), option("int8-dynamic", 0.9, 0.6)]
    assert made(options).precision == "int8-dynamic"


def test_what_saturating_cpus_get() -> None:
    decision = Decision("b", "int8", "why", engines=("onnxruntime",))
    good, bad = option("int8w7", 0.9), option("int8w7", 0.2)
    asked = {"precision": "auto", "max_drop": None}
    assert fall_back(decision, good, has_float=True, **asked).fallback == "int8w7"
    assert fall_back(decision, bad, has_float=True, **asked).fallback == "float32"
    assert fall_back(decision, bad, has_float=False, precision="int8", max_drop=None).fallback == "int8w7"
    with pytest.raises(BudgetError, match="without VNNI"):
        fall_back(decision, bad, has_float=False, precision="int8", max_drop="1pt")


options_ = st.builds(
    option,
    st.sampled_from(["float32", "int8", "int8-dynamic"]),
    st.none() | st.floats(0, 1),
    st.none() | st.floats(0.1, 3),
    st.sampled_from(["onnxruntime", "litert"]),
    st.integers(0, 10),
)


def candidates() -> st.SearchStrategy[list[Option]]:
    """What a compile has: float32 by the first engine, and at most one payload of each other form and engine."""
    several = st.lists(options_, max_size=6, unique_by=lambda o: (o.precision, o.engine))
    return several.map(
        lambda found: [
            option("float32", 0.9, 1.0),
            *(o for o in found if (o.precision, o.engine) != ("float32", "onnxruntime")),
        ]
    )


@given(candidates())
def test_auto_never_ships_what_breaks_the_budget_or_is_slower(options: list[Option]) -> None:
    found = made(options, max_drop="5pt")
    assert Decision.from_dict(found.as_dict()) == found
    chosen = [o for o in options if o.precision == found.precision and o.engine in found.engines]
    assert len(chosen) == len(found.engines) > 0
    if found.precision != "float32":
        assert all(o.within("5pt") for o in chosen)
        times = [o.time_ratio for o in chosen if o.time_ratio is not None]
        assert not times or min(times) <= 1.0
