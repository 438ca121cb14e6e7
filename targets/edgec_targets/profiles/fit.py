"""Coefficients from counts: non-negative least squares on relative errors; tiles by the error that they leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgec_targets.profiles.features import TILED, Tile, features
from edgec_targets.profiles.work import Work

Array = NDArray[np.float64]
TILES = tuple(product((1, 2, 4, 6, 8), (4, 8, 16), (1, 4, 8)))
"""What kernels of products are seen to take: rows, columns, inner steps."""
STRIPS = tuple((1, nr, 1) for nr in (1, 4, 8, 16))
"""And depthwise ones: channels."""


@dataclass(frozen=True)
class Fitted:
    """Coefficients by feature, tiles by kind, and the relative errors on what was fitted."""

    coefficients: Mapping[str, float]
    tiles: Mapping[str, Tile]
    errors: Array


def fit(counted: Sequence[tuple[Sequence[Work], float]]) -> Fitted:
    """The least squares of (predicted − counted) ÷ counted over all files.

    Args:
        counted: what a file's kernels do, and what it took (instructions, nanoseconds).

    Raises ValueError without files.
    """
    if not counted:
        raise ValueError("nothing was counted")
    kinds = {w.name: w.kind for work, _ in counted for w in work if w.kind.partition(".")[0] in TILED}
    kinds = {name: kind for name, kind in kinds.items() if not kind.startswith("depthwise.")}
    tiles: dict[str, Tile] = {
        name: (1, 8, 1) if kind.startswith("depthwise") else (4, 8, 1) for name, kind in sorted(kinds.items())
    }
    for _ in range(2):  # one kind's best tile hardly depends on another's: they meet in few files
        for name in tiles:
            own = [(work, total) for work, total in counted if any(w.name == name for w in work)]
            shapes = STRIPS if kinds[name].startswith("depthwise") else TILES
            tiles[name] = min(shapes, key=lambda tile: _error(own, {**tiles, name: tile}))
    names, matrix, target = _system(counted, tiles)
    solution = nonnegative(matrix, target)
    kept = {n: float(c) for n, c in zip(names, solution, strict=True) if c > 0}
    return Fitted(kept, tiles, matrix @ solution - 1)


def _error(counted: Sequence[tuple[Sequence[Work], float]], tiles: Mapping[str, Tile]) -> float:
    _, matrix, target = _system(counted, tiles)
    residual = matrix @ nonnegative(matrix, target) - target
    return float(residual @ residual)


def _system(
    counted: Sequence[tuple[Sequence[Work], float]], tiles: Mapping[str, Tile]
) -> tuple[list[str], Array, Array]:
    rows: list[dict[str, float]] = []
    for work, total in counted:
        row: dict[str, float] = {}
        for one in work:
            for name, amount in features(one, tiles).items():
                row[name] = row.get(name, 0.0) + amount / total
        rows.append(row)
    names = sorted({name for row in rows for name in row})
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)))
    for i, row in enumerate(rows):
        for name, amount in row.items():
            matrix[i, place[name]] = amount
    return names, matrix, np.ones(len(rows))


def nonnegative(matrix: Array, target: Array) -> Array:
    """min |matrix · x − target| over x ≥ 0.

    The active-set method of Lawson & Hanson, "Solving Least Squares Problems" (1974), chapter 23, on columns of length
    one. Deterministic.
    """
    norms = np.linalg.norm(matrix, axis=0)
    norms[norms == 0] = 1.0
    a = matrix / norms
    gram, right = a.T @ a, a.T @ target
    count = a.shape[1]
    x = np.zeros(count)
    passive = np.zeros(count, bool)
    for _ in range(6 * count + 10):
        gradient = right - gram @ x
        gradient[passive] = -np.inf
        best = int(np.argmax(gradient)) if count else 0
        if not count or gradient[best] <= 1e-10:
            break
        passive[best] = True
        while True:
            trial = np.zeros(count)
            trial[passive] = _solve(gram[np.ix_(passive, passive)], right[passive])
            low = passive & (trial <= 0)
            if not low.any():
                x = trial
                break
            ratio = np.min(x[low] / np.maximum(x[low] - trial[low], 1e-300))
            x = x + ratio * (trial - x)
            x[low & (x <= 1e-14)] = 0.0
            dropped = low & (x == 0.0)
            if not dropped.any():
                dropped = low & (x == x[low].min())
                x[dropped] = 0.0
            passive &= ~dropped
    result: Array = x / norms
    return result


def _solve(gram: Array, right: Array) -> Any:
    return np.linalg.solve(gram + 1e-12 * np.eye(len(gram)), right)
