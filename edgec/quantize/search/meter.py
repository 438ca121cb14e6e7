"""What a budget is held against: the user's metric on the samples to search on, or likeness to the float model.

Samples are split by a seed into those searched on and those that confirm: whoever picks the best of many by some
samples must be judged by others. Where a metric can't be split, all of it is used for both, and the report says so.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from edgec.data import Budget, Evaluation, Score, likeness
from edgec.errors import BudgetError, UsageError
from edgec.quantize.search.bounds import samples_needed, upper_bound

Feed = Mapping[str, np.ndarray]
Run = Callable[[Feed], list[np.ndarray]]


@dataclass(frozen=True)
class Reading:
    """A model's value, and the float model's, on the same samples; `losses` per sample where the metric has them."""

    metric: str
    value: float
    float_value: float
    n: int
    losses: tuple[float, ...] | None = None
    binary: bool = False

    @property
    def drop(self) -> float:
        """Float's value less this one's."""
        return self.float_value - self.value

    def bound(self, confidence: float) -> float | None:
        """The drop's upper bound at a confidence; None where the metric has no value per sample in [0, 1]."""
        if self.losses is None:
            return None
        return upper_bound(self.losses, confidence, binary=self.binary)

    def keeps(self, budget: Budget, confidence: float | None) -> bool:
        """Whether the budget holds: of the bound where a confidence is asked, else of the value."""
        if confidence is None:
            return budget.allows(self.float_value, self.value)
        bound = self.bound(confidence)
        return bound is not None and budget.allows(self.float_value, self.float_value - bound)

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"metric": self.metric, "value": self.value, "float_value": self.float_value, "n": self.n}


class Meter(Protocol):
    """Judges models on the samples to search on."""

    split: bool
    digest: str

    def __call__(self, run: Run) -> Reading:
        """The reading of a model."""
        ...


def halves(n: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices to search on, and to confirm on: a seeded split, each half ascending; the second is never smaller."""
    order = np.random.default_rng(seed).permutation(n)
    return sorted(int(i) for i in order[: n // 2]), sorted(int(i) for i in order[n // 2 :])


@dataclass
class Metric:
    """The user's evaluation.

    Args:
        evaluation: as the user gave it.
        reference: runs the float model.
        seed: of the split.
        part: "search" and "confirm" are halves; "all" is for what was not searched on these samples.
    """

    evaluation: Evaluation
    reference: Run
    seed: int = 0
    part: Literal["search", "confirm", "all"] = "search"
    split: bool = field(init=False)
    digest: str = field(init=False)
    n: int = field(init=False)

    def __post_init__(self) -> None:
        seen = hashlib.sha256(_source(self.evaluation).encode())

        def watched(feed: Feed) -> list[np.ndarray]:
            for name in sorted(feed):
                array = np.ascontiguousarray(feed[name])
                seen.update(f"{name}\0{array.dtype.str}\0{array.shape}".encode() + array.tobytes())
            return self.reference(feed)

        self._whole = self.evaluation.score(watched)
        per_sample = self._whole.per_sample
        mean = None if per_sample is None else float(np.mean(per_sample))
        is_mean = mean is not None and abs(mean - self._whole.value) <= 1e-3 * max(1.0, abs(mean))
        self.n = self._whole.n
        self.split = self.evaluation.splittable and is_mean and self._whole.n >= 2
        first, second = halves(self.n, self.seed)
        chosen = {"search": first, "confirm": second, "all": list(range(self.n))}[self.part]
        self._indices = chosen if self.split else None
        self._float = tuple(per_sample[i] for i in self._indices) if self._indices and per_sample else None
        seen.update(repr((self._whole.value, self._whole.n, per_sample, self._indices)).encode())
        self.digest = seen.hexdigest()

    @property
    def unit(self) -> bool:
        """Whether the metric's values lie in [0, 1], so that bounds hold."""
        return self._float is not None and min(self._float) >= 0 and max(self._float) <= 1

    def __call__(self, run: Run) -> Reading:
        """The reading on this half. Raises BadInputError where the user's function fails."""
        if self._indices is None or self._float is None:
            score = self.evaluation.score(run)
            return Reading(score.metric, score.value, self._whole.value, score.n)
        score = self.evaluation.score(run, indices=self._indices)
        if score.per_sample is None:
            raise UsageError(
                f"evaluation {self.evaluation.describe} gave values per sample once, and now none",
                fix="Return per_sample always, or never.",
            )
        return paired(score.metric, self._float, score.per_sample)

    def demand(self, budget: Budget, confidence: float | None) -> None:
        """Whether a confidence can be shown on this half at all.

        Raises:
            UsageError: the metric has no values per sample that a bound holds for.
            BudgetError: there are too few samples, with the number needed.
        """
        if confidence is None:
            return
        if not self.split or not self.unit:
            why = (
                "Its values are not between 0 and 1."
                if self.split
                else "It takes no `indices`, or returns no `per_sample` whose mean is its value."
            )
            raise UsageError(
                f"--confidence can't be given for evaluation {self.evaluation.describe}",
                why,
                "Let evaluate(run, indices=None) return per_sample, each in [0, 1]; or leave out --confidence.",
                code="E217",
            )
        reading = paired(self._whole.metric, self._float or (), self._float or ())
        allowed = reading.float_value - budget.floor(reading.float_value)
        needed = samples_needed(allowed, confidence) if allowed > 0 else None
        if needed is None or needed > reading.n:
            share = 1 if self.part == "all" else 2
            enough = f"at least {share * needed} evaluation samples" if needed else "a budget over 0"
            raise BudgetError(
                f"too few samples for --confidence {confidence:g}: {reading.n} of {self.n} confirm",
                f"Even without a single loss, {reading.n} samples bound the drop at "
                f"{100 * reading.bound(confidence):.2g} %; {100 * allowed:.2g} % is allowed."  # type: ignore[operator]
                if needed
                else "No number of samples shows that nothing at all is lost.",
                f"Give {enough}, allow more, or ask for less confidence.",
                code="E303",
            )


class Likeness:
    """Likeness to the float model on inputs without labels."""

    def __init__(self, reference: Run, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self._expected = [reference(feed) for feed in feeds]
        self.split = False
        self.digest = "likeness"  # of the float model on the calibration data: those are in a trial's key already

    def __call__(self, run: Run) -> Reading:
        """Mean likeness of the output that suffers most."""
        score: Score = likeness(self._expected, [run(feed) for feed in self._feeds])
        return Reading(score.metric, score.value, 1.0, score.n)


def paired(metric: str, reference: Sequence[float], values: Sequence[float]) -> Reading:
    """The reading of two models' values on the same samples."""
    losses = tuple(a - b for a, b in zip(reference, values, strict=True))
    everything = {*reference, *values}
    bounded = min(everything) >= 0 and max(everything) <= 1
    return Reading(
        metric, float(np.mean(values)), float(np.mean(reference)), len(losses), losses if bounded else None,
        binary=everything <= {0.0, 1.0},
    )  # fmt: skip


def _source(evaluation: Evaluation) -> str:
    """The text of the file that holds the user's function, where there is one."""
    try:
        return Path(inspect.getsourcefile(evaluation.function) or "").read_text(encoding="utf-8")
    except (OSError, TypeError, UnicodeDecodeError):
        return ""
