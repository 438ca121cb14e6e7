"""Measure the candidates and decide what each board gets, or replay what a recipe decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from edgec import decide
from edgec.bundle.recipe import Recipe
from edgec.data import Budget
from edgec.errors import BudgetError, UsageError
from edgec.measure.accuracy import Accuracy, Yardstick
from edgec.measure.engine import executable
from edgec.measure.speed import time_ratio
from edgec.progress import Progress
from edgec.quantize import portable
from edgec.quantize.search import Metric, in_words
from edgec.request import Request
from edgec.stages.boards import Kind
from edgec.stages.emit import Candidate
from edgec.stages.inputs import Inputs


@dataclass
class Measured:
    """What was measured.

    Attributes:
        accuracy: of each distinct payload, by digest.
        time_ratio: int8's time over float32's, for each board measured here.
        confirmed: by digest, what evaluation samples kept apart say of it.
        search: what searches found, by the models' names (`quantize.Quantized.searched`).
    """

    accuracy: dict[str, Accuracy | None] = field(default_factory=dict)
    time_ratio: dict[str, float] = field(default_factory=dict)
    confirmed: dict[str, decide.Confirmed] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the recipe."""
        made: dict[str, Any] = {"time_ratio": dict(self.time_ratio)}
        return {**made, "search": dict(self.search)} if self.search else made


def wanted(request: Request, inputs: Inputs, recipe: Recipe | None) -> tuple[list[str], str]:
    """The precisions to build, and why int8 is not among them where it isn't."""
    if recipe is not None:
        decided = {str(d[key]) for d in recipe.decisions for key in ("precision", "fallback") if d.get(key)}
        return sorted(decided), ""
    if request.precision == "int8":
        return ["int8", portable.NARROW], ""
    if request.precision != "auto":
        return [request.precision], ""
    if inputs.calibration is None:
        return ["float32"], "there is no calibration data"
    return ["float32", "int8", portable.NARROW], ""


def payloads(
    candidates: Mapping[str, Sequence[Candidate]], decisions: Sequence[decide.Decision]
) -> dict[str, Candidate]:
    """What ships, by payload id: the boards in order as they were asked for, each one's payloads by preference.

    The CPU's features decide between a board's payloads: eight-bit weights where products can't saturate, by either
    of the features that see to it, then the fallback, which needs none.
    """
    made = {}
    for decision in decisions:
        by = {c.name: c for c in candidates[decision.board]}
        first = by[decision.precision]
        engine = first.built.engine
        made[f"{engine}-{decision.precision}-{decision.board}"] = first
        if decision.fallback:
            for feature in portable.EXACT[1:]:
                name = f"{engine}-{decision.precision}-{feature}-{decision.board}"
                made[name] = replace(first, built=replace(first.built, isa=(feature,)))
            made[f"{engine}-{decision.fallback}-{decision.board}"] = by[decision.fallback]
    return made


def accuracies(shipped: Mapping[str, Candidate], measured: Measured) -> dict[str, Any]:
    """Payload id -> accuracy, for the report."""
    found = {name: measured.accuracy.get(c.digest) for name, c in shipped.items()}
    return {name: {**a.as_dict(), "sqnr_db": a.sqnr} if a else None for name, a in found.items()}


def measure(
    candidates: Mapping[str, Sequence[Candidate]],
    yardstick: Yardstick,
    inputs: Inputs,
    request: Request,
    recipe: Recipe | None,
    progress: Progress,
) -> Measured:
    """Run each distinct payload with the device's adapter; where a board is this machine, time int8 and float32."""
    measured = Measured()
    distinct = {c.digest: c for several in candidates.values() for c in several}
    with progress("measuring accuracy", len(distinct)) as step:
        for digest, candidate in distinct.items():
            with executable(candidate.built) as run:
                measured.accuracy[digest] = yardstick.measure(run) if yardstick.usable else None
            step(1)
    if recipe is not None:
        measured.time_ratio = dict(recipe.measured.get("time_ratio", {}))
        measured.search = dict(recipe.measured.get("search", {}))
        return measured
    _confirm(measured, distinct, yardstick, request, progress)
    if request.precision == "auto" and inputs.samples:
        for name, several in candidates.items():
            by = {c.name: c for c in several}
            if by.keys() >= {"int8", "float32"} and several[0].kind.target.name == "host":
                with progress("timing int8 against float32", None):
                    measured.time_ratio[name] = time_ratio(by["int8"].built, by["float32"].built, inputs.samples[0])
    return measured


def _confirm(
    measured: Measured,
    distinct: Mapping[str, Candidate],
    yardstick: Yardstick,
    request: Request,
    progress: Progress,
) -> None:
    """Look, once, at the samples that nothing was chosen on: those a search has left, or all where none was made.

    Raises UsageError for a confidence without evaluation samples, BudgetError where they are too few for it.
    """
    if request.confidence is None and request.effort != "search":
        return
    evaluation = yardstick.evaluation
    if evaluation is None:
        if request.confidence is not None:
            raise UsageError(
                "--confidence needs evaluation data",
                "It is a statement about samples of the user's metric.",
                "Add --eval file.py:function, or leave it out.",
                code="E217",
            )
        return
    integers = {digest: c for digest, c in distinct.items() if c.precision == "int8"}
    if not integers:
        return
    with progress("confirming on samples kept apart", len(integers)) as step:
        part: Any = "confirm" if request.effort == "search" else "all"
        metric = Metric(evaluation, yardstick.reference, request.seed, part)
        metric.demand(Budget.parse(request.max_drop or decide.DEFAULT_DROP), request.confidence)
        if not metric.split:
            return  # the gate is the value on the artifact
        for digest, candidate in integers.items():
            with executable(candidate.built) as run:
                measured.confirmed[digest] = decide.Confirmed(metric(run), request.confidence)
            step(1)


def _with_points(missed: BudgetError, measured: Measured) -> BudgetError:
    """The same with the best that a search has seen."""
    points = [p for report in measured.search.values() for p in report["points"]]
    if not points:
        return missed
    why = f"{missed.why} The best found, on the samples searched on: {in_words(points)}."
    return BudgetError(missed.what, why, missed.fix, code=missed.code)


def _size_ratio(several: Sequence[Candidate]) -> float | None:
    """int8's bytes over float32's; None where there are not both."""
    sizes = {c.name: sum(len(content) for _, content in c.built.files.values()) for c in several}
    return sizes["int8"] / sizes["float32"] if sizes.keys() >= {"int8", "float32"} else None


def choose(
    candidates: Mapping[str, Sequence[Candidate]],
    measured: Measured,
    kinds: Sequence[Kind],
    request: Request,
    recipe: Recipe | None,
    note: str,
) -> list[decide.Decision]:
    """One decision a board. Raises BudgetError (exit 3)."""
    if recipe is not None:
        return [decide.Decision(d["board"], d["precision"], d["why"], d.get("fallback", "")) for d in recipe.decisions]
    decisions = []
    for kind in kinds:
        several = candidates[kind.board.name]
        accuracies = {c.name: measured.accuracy[c.digest] for c in several}
        confirmed = {c.name: measured.confirmed[c.digest] for c in several if c.digest in measured.confirmed}
        try:
            decision = decide.decide(
                kind.board.name,
                precision=request.precision,
                max_drop=request.max_drop,
                accuracies=accuracies,
                time_ratio=measured.time_ratio.get(kind.board.name),
                size_ratio=_size_ratio(several),
                note=note,
                confirmed=confirmed,
            )
        except BudgetError as missed:
            raise _with_points(missed, measured) from missed
        chosen = next(c for c in several if c.name == decision.precision)
        saturates = portable.may_saturate(kind.board.arch, kind.board.isa)
        if decision.precision == "int8" and saturates and set(chosen.built.isa) & set(portable.EXACT):
            decision = decide.fall_back(
                decision, portable.NARROW, accuracies, precision=request.precision, max_drop=request.max_drop,
                confirmed=confirmed,
            )  # fmt: skip
        decisions.append(decision)
    return decisions
