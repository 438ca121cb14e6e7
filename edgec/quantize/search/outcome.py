"""What a search found: the points it looked at, the one it chose, and all of it as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, log10
from typing import Any

from edgec.data import Budget
from edgec.data.metrics import reported_db
from edgec.quantize import layers
from edgec.quantize.pipeline import Quantized
from edgec.quantize.search.cut import Balance, Corner
from edgec.quantize.search.meter import Reading
from edgec.quantize.search.prices import Prices
from edgec.quantize.search.sensitivity import Sensitivity
from edgec.quantize.search.setup import Setup


@dataclass
class Point:
    """An assignment that was built and measured.

    Attributes:
        corner: its layers in float, its expected time and noise.
        reading: what it scored on the samples to search on.
        sqnr: of its outputs on held-out calibration samples after the corrections, dB; None where there were none.
        size: bytes.
        kept: whether it keeps the budget there.
        chance: that samples kept apart confirm it; 1 where none are kept apart.
        speed: float's time over its own, measured on this machine; None where that is not the board.
    """

    corner: Corner
    reading: Reading
    sqnr: float | None
    size: int
    kept: bool
    chance: float = 1.0
    speed: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values: times as parts of the float model's."""
        return {
            "float_layers": sorted(self.corner.floats),
            "expected_time": _digits(self.corner.time),
            "expected_noise_db": _decibels(self.corner.noise),
            **self.reading.as_dict(),
            "drop": round(self.reading.drop, 6),
            "sqnr_db": self.sqnr,
            "bytes": self.size,
            "within_budget": self.kept,
            "chance": round(self.chance, 3),
            "speed": self.speed,
        }


@dataclass(frozen=True)
class Found:
    """The end of a search.

    Attributes:
        quantized: the chosen model; None where no assignment keeps the budget.
        report: plain values, for report.json and the recipe: `replay` makes the same model of it.
        points: all that were measured, fastest first as expected.
        why_not: why there is no model.
        ran: trials run, by kind; those that the store had are in `reused`.
        reused: trials that were not run again.
    """

    quantized: Quantized | None
    report: Mapping[str, Any]
    points: Sequence[Point]
    why_not: str = ""
    ran: Mapping[str, int] = field(default_factory=dict)
    reused: Mapping[str, int] = field(default_factory=dict)


def best(points: Sequence[Mapping[str, Any]], most: int = 4) -> list[Mapping[str, Any]]:
    """Of reported points those that no other beats in both speed and value, fastest first; at most so many."""
    kept: list[Mapping[str, Any]] = []
    for point in sorted(points, key=lambda p: (-(p["speed"] or 0), p["expected_time"], p["drop"])):
        if not kept or point["drop"] < kept[-1]["drop"]:
            kept.append(point)
    return kept if len(kept) <= most else [*kept[: most - 1], kept[-1]]


def in_words(points: Sequence[Mapping[str, Any]]) -> str:
    """The best points in a line."""
    words = []
    for p in best(points):
        speed = f"{p['speed']:.2f} × as fast as float" if p["speed"] is not None else f"{p['bytes'] / 1e6:.2g} MB"
        floats = len(p["float_layers"])
        words.append(f"{p['metric']} {p['value']:.4g} at {speed}, {floats or 'no'} layer{'s' * (floats != 1)} in float")
    return "; ".join(words)


def report(
    setup: Setup,
    budget: Budget,
    confidence: float | None,
    prices: Prices,
    balance: Balance,
    sensitivity: Sensitivity | None,
    points: Sequence[Point],
    chosen: Point | None,
    *,
    split: bool,
    why_not: str = "",
) -> dict[str, Any]:
    """All of a search as plain values (docs/search.md explains each)."""
    first = points[0].reading if points else None
    reference = balance.corner(setup.layers).time or 1.0
    return {
        "budget": str(budget),
        "confidence": confidence,
        "metric": first.metric if first else None,
        "float_value": first.float_value if first else None,
        "searched_on": first.n if first else 0,
        "confirmed_apart": split,
        "costs": prices.source,
        "scheme": repr(setup.scheme),
        "layers": _layers(setup, prices, sensitivity, chosen.corner.floats if chosen else None),
        "values": {n: _entry(e) for n, e in sensitivity.values.items()} if sensitivity else None,
        "points": [{**p.as_dict(), "expected_time": _digits(p.corner.time / reference)} for p in points],
        "chosen": next((i for i, p in enumerate(points) if p is chosen), None),
        "floats": sorted(chosen.corner.floats) if chosen else None,
        "why_not": why_not,
    }


def _layers(
    setup: Setup, prices: Prices, sensitivity: Sensitivity | None, floats: frozenset[str] | None
) -> list[dict[str, Any]]:
    ranges = next(iter(setup.ranges.values()))
    rows = []
    for unit in setup.plan.units:
        node, name = unit.node, setup.names[unit.node]
        price = prices.layer(node)
        output = str(unit.results[0].name)
        row: dict[str, Any] = {
            "name": name,
            "op_type": node.op_type,
            "precision": None if floats is None else "float32" if name in floats else "int8",
            "cost_float": _digits(price.in_float),
            "cost_int8": _digits(price.in_integer),
            "output": output,
            "range": [float(x) for x in ranges[output]] if output in ranges else None,
        }
        if layers.weight_of(node) is not None:
            row["weight_noise"] = _entry(sensitivity.weights[name]) if sensitivity else None
        rows.append(row)
    return rows


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A sensitivity: as decibels under the signal, with its interval relative to the mean."""
    mean, half = entry["noise"], entry["half"]
    relative = round(half / mean, 3) if mean and half is not None and isfinite(half / mean) else None
    return {"noise_db": _decibels(mean), "interval": relative, "samples": entry["samples"]}


def _decibels(noise: float | None) -> float | None:
    """A noise-to-signal ratio as SQNR."""
    if noise is None:
        return None
    return reported_db(-10 * log10(noise)) if noise > 0 else 200.0


def _digits(value: float) -> float:
    """Three significant digits: measured times have no more."""
    return float(f"{value:.3g}")
