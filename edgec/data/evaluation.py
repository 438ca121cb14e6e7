"""The user's own metric: a function that is given `run` and answers with a number."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from edgec.data.metrics import Score
from edgec.errors import BadInputError, Error

Feed = Mapping[str, np.ndarray]
Run = Callable[[Feed], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Evaluation:
    """A metric over the user's labelled data.

    Attributes:
        function: `evaluate(run)`, or `evaluate(run, indices=None)`; `run` takes a feed `{input name: array}` and gives
            the list of the model's outputs. It returns `{"metric": name, "value": number, "n": count}`, higher is
            better, optionally `"per_sample": [number, …]`; further numbers are kept for the report.
        describe: where it came from, for messages and the report.
    """

    function: Callable[..., Any]
    describe: str

    @property
    def splittable(self) -> bool:
        """Whether it takes `indices`, so that samples can be split into search and confirm."""
        return "indices" in inspect.signature(self.function).parameters

    def score(self, run: Run, *, indices: Sequence[int] | None = None) -> Score:
        """Evaluate a model.

        Args:
            run: runs the model on one feed.
            indices: evaluate these samples only; only where `splittable`.

        Raises:
            BadInputError: when the function raises, or its answer is not as described above.
        """
        options: dict[str, Any] = {}
        if indices is not None:
            if not self.splittable:
                raise self._bad("it takes no `indices`", "samples can't be chosen")
            options["indices"] = list(indices)
        try:
            answer = self.function(run, **options)
        except Error:
            raise  # what went wrong inside `run` was already said
        except Exception as problem:
            raise self._bad(f"{type(problem).__name__}: {problem}", "it raised an error") from problem
        return self._check(answer, None if indices is None else len(indices))

    def _check(self, answer: object, asked: int | None) -> Score:
        if not isinstance(answer, Mapping):
            raise self._bad(f"it returned {type(answer).__name__}, not a dictionary", "its answer can't be read")
        metric, value, n = (answer.get(k) for k in ("metric", "value", "n"))
        if not isinstance(metric, str) or not metric:
            raise self._bad("`metric` must be the metric's name", "its answer can't be read")
        if not _finite(value):
            raise self._bad(f"`value` is {value!r}, not a finite number", "its answer can't be read")
        if not isinstance(n, numbers.Integral) or n < 1:
            raise self._bad(f"`n` is {n!r}, not a positive count", "its answer can't be read")
        per_sample = answer.get("per_sample")
        if per_sample is not None:
            if not isinstance(per_sample, (Sequence, np.ndarray)) or not all(_finite(v) for v in per_sample):
                raise self._bad("`per_sample` must be a list of finite numbers", "its answer can't be read")
            if len(per_sample) != (int(n) if asked is None else asked):
                why = f"`per_sample` has {len(per_sample)} values for {int(n) if asked is None else asked} samples"
                raise self._bad(why, "its answer can't be read")
        known = {"metric", "value", "n", "per_sample"}
        return Score(
            metric=metric,
            value=float(value),
            n=int(n),
            per_sample=None if per_sample is None else tuple(float(v) for v in per_sample),
            extra={str(k): float(v) for k, v in answer.items() if k not in known and _finite(v)},
        )

    def _bad(self, why: str, what: str) -> BadInputError:
        return BadInputError(
            f"evaluation {self.describe}: {what}",
            why,
            'return {"metric": name, "value": number, "n": count}, higher is better',
            code="E932",
        )


def _finite(value: object) -> TypeGuard[float]:
    if isinstance(value, bool):
        return False
    return isinstance(value, numbers.Real) and math.isfinite(value)
