"""What a kernel's instructions are counted in: loops over tiles, rows and elements.

A product's kernel computes a tile of the result at a time, `mr` rows by `nr` columns, and walks the inner dimension in
steps of `kr` for each: half a tile costs a whole one. Around it: something for each call, for each row and tap that is
gathered, for each element that is copied, rounded or written. An element-wise kernel takes something for each call
and for each element. Each feature has one coefficient, found by counting (`fit.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from edgec_targets.profiles.work import Work

Tile = tuple[int, int, int]
"""Rows, columns and inner steps that a kernel takes at once."""

TILED = ("conv", "depthwise", "product", "lstm")


def features(work: Work, tiles: Mapping[str, Tile]) -> dict[str, float]:
    """Feature -> amount. `tiles`: `Work.name` -> tile."""
    tile = tiles.get(work.name, (1, 1, 1))
    family = work.kind.partition(".")[0]
    if work.kind == "depthwise":
        found = _depthwise(work, tile)
    elif family == "depthwise":
        found = _planes(work)
    elif family in TILED:
        found = _product(work, tile)
    else:
        found = {"call": 1.0, "element": float(work.m), "row": work.m / work.n}
    return {f"{work.name} {name}": amount for name, amount in found.items() if amount}


def _product(work: Work, tile: Tile) -> dict[str, float]:
    mr, nr, kr = tile
    rows, columns = -(-work.m // mr), -(-work.n // nr)
    wide = columns * nr
    # A window's taps are walked one after the other, each over its channels; a plain product has one long row.
    steps = work.taps * -(-work.k // kr)
    return {
        "call": 1.0,
        "group": float(work.groups) if work.groups > 1 else 0.0,
        "row": float(work.groups * work.m),
        "tap": float(work.groups * work.m * work.taps) if work.gathered else 0.0,
        "input": float(work.groups * work.m * work.taps * work.k),
        "line": float(work.groups * work.k * work.taps * work.lines) if work.gathered else 0.0,
        "gathered input": float(work.groups * work.m * work.taps * work.k) if work.gathered else 0.0,
        "tile": float(work.groups * rows * columns),
        "tile tap": float(work.groups * rows * columns * work.taps) if work.gathered else 0.0,
        "tile step": float(work.groups * rows * columns * steps),
        # Weights are read once a tile, multiplied once a row of it: of all its rows, or of those that there are.
        "filled step": float(work.groups * (1 if work.m == 1 else rows * mr) * columns * steps),
        "row step": float(work.groups * work.m * columns * steps),
        "rest step": float(work.groups * work.m * columns * work.taps * (work.k % 4)),
        "rest": float(work.groups * work.m) if work.n % nr else 0.0,
        "output": float(work.groups * work.m * work.n),
        "padded output": float(work.groups * work.m * wide),
        "weight": float(work.groups * work.n * work.k * work.taps),
        # A single row by a matrix whose width is no multiple of a vector's: some engines leave their fast path.
        "single product": float(work.n * work.k) if work.m == 1 else 0.0,
        "odd product": float(work.n * work.k) if work.m == 1 and work.n % 8 else 0.0,
    }


def _planes(work: Work) -> dict[str, float]:
    return {
        "call": 1.0,
        "channel": float(work.n),
        "line": float(work.n * work.lines),
        "line tap": float(work.n * work.lines * work.taps),
        "output": float(work.m * work.n),
        "product": float(work.m * work.n * work.taps),
    }


def _depthwise(work: Work, tile: Tile) -> dict[str, float]:
    _, nr, _ = tile
    columns = -(-work.n // nr)
    return {
        "call": 1.0,
        "pixel": float(work.m),
        "tap": float(work.m * work.taps),
        "vector": float(work.m * columns),
        "vector tap": float(work.m * columns * work.taps),
        "output": float(work.m * work.n),
        "product": float(work.m * work.n * work.taps),
        # Widths that are no multiple of a vector's leave some engines' fast path.
        "odd product": float(work.m * work.n * work.taps) if work.n % 8 else 0.0,
        "channel": float(work.n),
    }
