"""A set of tuples of types as a short list of boxes, each the product of one set a position."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Box = tuple[frozenset[str], ...]


def cover(tuples: Iterable[Sequence[str]]) -> list[Box]:
    """Return boxes whose union is exactly `tuples`: `{(a,x), (b,x)}` -> `[({a,b}, {x})]`.

    Boxes that agree in all positions but one are merged, position by position, until none is left to merge. Not
    minimal (that is NP-hard), but the tables of real engines come out near it. Deterministic.
    """
    boxes = {tuple(frozenset((name,)) for name in row) for row in tuples}
    changed = True
    while changed:
        before = len(boxes)
        width = len(next(iter(boxes), ()))
        for position in reversed(range(width)):
            merged: dict[Box, frozenset[str]] = {}
            for box in boxes:
                others = box[:position] + box[position + 1 :]
                merged[others] = merged.get(others, frozenset()) | box[position]
            boxes = {(*others[:position], names, *others[position:]) for others, names in merged.items()}
        changed = len(boxes) < before
    return sorted(boxes, key=lambda box: [sorted(names) for names in box])


def contains(boxes: Iterable[Sequence[frozenset[str]]], row: Sequence[str | None]) -> bool:
    """True when some box holds `row`; None in a row is a type that isn't known and fits everywhere."""
    return any(all(name is None or name in names for name, names in zip(row, box, strict=True)) for box in boxes)
