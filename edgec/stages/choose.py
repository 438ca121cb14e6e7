"""Measure the candidates and decide what each board gets, or replay what a recipe decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgec import decide
from edgec.bundle.recipe import Recipe
from edgec.measure.accuracy import Accuracy, Yardstick
from edgec.measure.engine import executable
from edgec.measure.speed import time_ratio
from edgec.progress import Progress
from edgec.request import Request
from edgec.stages.boards import Kind
from edgec.stages.emit import Candidate
from edgec.stages.inputs import Inputs


@dataclass
class Measured:
    """Accuracy of each distinct payload (by digest), and int8's time over float32's for each board measured here."""

    accuracy: dict[str, Accuracy | None] = field(default_factory=dict)
    time_ratio: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the recipe."""
        return {"time_ratio": dict(self.time_ratio)}


def wanted(request: Request, inputs: Inputs, recipe: Recipe | None) -> tuple[list[str], str]:
    """The precisions to build, and why int8 is not among them where it isn't."""
    if recipe is not None:
        return sorted({str(d["precision"]) for d in recipe.decisions}), ""
    if request.precision != "auto":
        return [request.precision], ""
    if inputs.calibration is None:
        return ["float32"], "there is no calibration data"
    return ["float32", "int8"], ""


def payloads(
    candidates: Mapping[str, Sequence[Candidate]], decisions: Sequence[decide.Decision]
) -> dict[str, Candidate]:
    """What ships, by payload id, in the order of the boards as they were asked for."""
    made = {}
    for decision in decisions:
        candidate = next(c for c in candidates[decision.board] if c.precision == decision.precision)
        made[f"{candidate.built.engine}-{candidate.precision}-{decision.board}"] = candidate
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
    elif request.precision == "auto" and inputs.samples:
        for name, several in candidates.items():
            by = {c.precision: c for c in several}
            if by.keys() >= {"int8", "float32"} and several[0].kind.target.name == "host":
                with progress("timing int8 against float32", None):
                    measured.time_ratio[name] = time_ratio(by["int8"].built, by["float32"].built, inputs.samples[0])
    return measured


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
        return [decide.Decision(d["board"], d["precision"], d["why"]) for d in recipe.decisions]
    return [
        decide.decide(
            kind.board.name,
            precision=request.precision,
            max_drop=request.max_drop,
            accuracies={c.precision: measured.accuracy[c.digest] for c in candidates[kind.board.name]},
            time_ratio=measured.time_ratio.get(kind.board.name),
            note=note,
        )
        for kind in kinds
    ]
