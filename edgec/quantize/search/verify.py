"""Assignments for real: built with the corrections, measured by the meter, timed where this machine is the board."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgec.data import Budget
from edgec.progress import Progress
from edgec.quantize.search import clock
from edgec.quantize.search.cut import Corner
from edgec.quantize.search.lab import Lab, Trial
from edgec.quantize.search.meter import Meter, Reading
from edgec.quantize.search.outcome import Point
from edgec.quantize.search.setup import Setup
from edgec.quantize.search.trials import from_bytes
from edgec.quantize.session import Session

LIKELY = 0.8  # chance of being confirmed from which on nothing slower is looked for


class Verifier:
    """Builds and measures assignments, each once.

    Args:
        setup: the search's start.
        lab: where trials run.
        meter: what judges them.
        budget: what they may lose.
        confidence: at which the drop's bound must keep it; None: the value.
        progress: of each long step.
    """

    def __init__(
        self, setup: Setup, lab: Lab, meter: Meter, budget: Budget, confidence: float | None, progress: Progress
    ) -> None:
        self.points: dict[frozenset[str], Point] = {}
        self._setup, self._lab, self._meter = setup, lab, meter
        self._budget, self._confidence, self._progress = budget, confidence, progress

    def __call__(self, corners: Sequence[Corner]) -> None:
        """Those that were not measured yet become points; what keeps the budget is then judged anew."""
        new = [c for c in dict.fromkeys(corners) if c.floats not in self.points]
        trials = [self._setup.trial(self._lab, c.floats) for c in new]
        with self._progress("building and measuring assignments", len(new)) as step:
            facts = self._lab.run(trials, step)
            for corner, trial, made in zip(new, trials, facts, strict=True):
                reading, size = self._read(trial)
                kept = reading.keeps(self._budget, self._confidence)
                self.points[corner.floats] = Point(corner, reading, made["after"], size, kept)
        self._judge()

    def keeps(self, corner: Corner) -> bool:
        """Whether a measured assignment keeps the budget, and samples kept apart will likely say so too."""
        point = self.points[corner.floats]
        return point.kept and point.chance >= LIKELY

    def time(self) -> None:
        """Every point's speed against float on this machine."""
        with self._progress("timing the assignments", len(self.points)) as step:
            for point in self.points.values():
                trial = self._setup.trial(self._lab, point.corner.floats)
                timing = Trial("speed", {"of": trial.name}, clock.speed, ())
                speed = self._lab.store.get(timing.name)
                if speed is None:
                    content = self._lab.model(trial)
                    speed = clock.speed(self._setup.content, content, self._setup.samples[0])
                    self._lab.remember(timing, speed)
                point.speed = float(speed)
                step(1)

    def _read(self, trial: Trial) -> tuple[Reading, int]:
        """The meter's reading of what a trial built, and its bytes: measured, or as the store has it."""
        kept = Trial("reading", {"of": trial.name, "meter": self._meter.digest}, from_bytes, ())
        entry: Any = self._lab.store.get(kept.name)
        if entry is None:
            content = self._lab.model(trial)
            reading = self._meter(Session(from_bytes(content)).run)
            entry = {**reading.as_dict(), "losses": reading.losses, "binary": reading.binary, "size": len(content)}
            self._lab.remember(kept, entry)
        entry = dict(entry)
        size, losses = entry.pop("size"), entry.pop("losses")
        return Reading(**entry, losses=None if losses is None else tuple(losses)), size

    def _judge(self) -> None:
        """A lucky assignment is not believed: its drop must also fit what noisier and less noisy ones lose.

        Of what fits follows the chance that the other half confirms it. A bound has luck in it already, and a metric
        that isn't split is its own gate: both stay as they are.
        """
        if self._confidence is not None or not self._meter.split:
            return
        points = [p for p in self.points.values() if p.sqnr is not None]
        points.sort(key=lambda p: (-(p.sqnr or 0.0), sorted(p.corner.floats)))
        for point, drop in zip(points, isotonic([p.reading.drop for p in points]), strict=True):
            value = point.reading.float_value
            fits = self._budget.allows(value, value - drop)
            point.kept = fits and point.reading.keeps(self._budget, None)
            point.chance = chance(point.reading, value - self._budget.floor(value), drop)


def chance(reading: Reading, allowed: float, drop: float) -> float:
    """How likely as many other samples show a drop of at most `allowed`, in the normal approximation.

    Both halves' means vary: by 2σ²/n. Where a metric is right or wrong, one loss more than was seen is reckoned with.

    Args:
        reading: on this half.
        allowed: by the budget.
        drop: the best guess of the true one.
    """
    if reading.losses is None or reading.n < 2:
        return 1.0
    squares = sum(loss**2 for loss in reading.losses) + reading.binary
    deviation = math.sqrt(2 * max(squares / reading.n - reading.drop**2, 0.0) / reading.n)
    room = allowed - drop
    return 0.5 * (1 + math.erf(room / deviation / math.sqrt(2))) if deviation > 0 else float(room >= -1e-9)


def isotonic(values: Sequence[float]) -> list[float]:
    """The nearest sequence that never falls (least squares; Ayer et al. 1955: pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
    return [mean for mean, n in blocks for _ in range(n)]
