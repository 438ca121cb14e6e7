"""Tuples of types as boxes: the same set, shorter."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from edgec_targets.probe.boxes import contains, cover

ROWS = st.integers(0, 3).flatmap(lambda width: st.sets(st.tuples(*[st.sampled_from("abcd")] * width), max_size=40))


@given(ROWS)
def test_boxes_hold_exactly_the_rows(rows: set[tuple[str, ...]]) -> None:
    boxes = cover(rows)
    inside = {row for box in boxes for row in itertools.product(*box)}
    assert inside == rows
    assert len(boxes) <= max(1, len(rows))
    assert boxes == cover(sorted(rows, reverse=True))
    assert all(contains(boxes, row) for row in rows)


def test_a_product_is_one_box() -> None:
    assert cover(itertools.product("ab", "xy", "12")) == [(frozenset("ab"), frozenset("xy"), frozenset("12"))]


def test_an_unknown_type_fits_everything() -> None:
    boxes = cover([("a", "x"), ("b", "y")])
    assert contains(boxes, (None, "x")) and contains(boxes, (None, None))
    assert not contains(boxes, ("a", "y")) and not contains(boxes, (None, "z"))
    assert contains(cover([()]), ()) and not contains([], ())
