"""Measure the candidates and decide what each board gets, or replay what a recipe decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from edgec import decide
from edgec.bundle.recipe import Recipe
from edgec.data import Budget
from edgec.errors import BudgetError, MissingError, UnsupportedError, UsageError
from edgec.measure.accuracy import Accuracy, Yardstick, overall_sqnr
from edgec.measure.engine import executable
from edgec.measure.speed import time_ratio
from edgec.progress import Progress
from edgec.quantize import portable
from edgec.quantize.forms import mostly_products
from edgec.quantize.search import Metric, in_words
from edgec.request import Request
from edgec.stages.boards import Kind
from edgec.stages.emit import Candidate
from edgec.stages.golden import LEAST
from edgec.stages.inputs import Inputs
from edgec_targets import profiles

AS_NEAR = 1.0  # dB: what another engine's integers may be farther from the float model than the first engine's


@dataclass
class Measured:
    """What was measured.

    Attributes:
        accuracy: of each distinct payload, by digest.
        time_ratio: board -> "engine-precision" -> its time over float32's by the first engine, where measured here.
        confirmed: by digest, what evaluation samples kept apart say of it.
        search: what searches found, by the models' names (`quantize.Quantized.searched`).
        failed: by digest, why a second engine's payload can't ship: it does not run here, or answers otherwise.
        own_way: digests of payloads that answer otherwise than the first engine's, as near to the float model.
    """

    accuracy: dict[str, Accuracy | None] = field(default_factory=dict)
    time_ratio: dict[str, dict[str, float]] = field(default_factory=dict)
    confirmed: dict[str, decide.Confirmed] = field(default_factory=dict)
    search: Mapping[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    own_way: set[str] = field(default_factory=set)

    def as_dict(self) -> dict[str, Any]:
        """For the recipe."""
        made: dict[str, Any] = {"time_ratio": {board: dict(times) for board, times in self.time_ratio.items()}}
        return {**made, "search": dict(self.search)} if self.search else made


def wanted(request: Request, model: ir.Model, inputs: Inputs, recipe: Recipe | None) -> tuple[list[str], str]:
    """The precisions to build, and why there are no integers among them where there aren't."""
    if recipe is not None:
        decided = {str(d[key]) for d in recipe.decisions for key in ("precision", "fallback") if d.get(key)}
        return sorted(decided), ""
    if request.precision == "int8":
        return ["int8", portable.NARROW], ""
    if request.precision != "auto":
        return [request.precision], ""
    if inputs.calibration is None:
        return ["float32"], "there is no calibration data"
    # Where most weights are matrices, ranges taken at run time may keep what fixed ones lose.
    dynamic = ["int8-dynamic"] if request.effort != "plain" and mostly_products(model) else []
    return ["float32", "int8", portable.NARROW, *dynamic], ""


def payloads(
    candidates: Mapping[str, Sequence[Candidate]], decisions: Sequence[decide.Decision]
) -> dict[str, Candidate]:
    """What ships, by payload id: the boards in order as they were asked for, each one's payloads by preference.

    The CPU's features decide between a board's payloads: eight-bit weights where products can't saturate, by either
    of the features that see to it, then the fallback, which needs none.

    Raises MissingError (exit 10) where a recipe decided for an engine that could not write its payload now.
    """
    made = {}
    for decision in decisions:
        by = {(c.name, c.engine): c for c in candidates[decision.board]}
        for engine in decision.engines:
            first = by.get((decision.precision, engine))
            if first is None:
                raise MissingError(
                    f"the recipe has a payload for {engine}, which can't be made here",
                    "Its package is not installed, or its version refuses the model.",
                    f"pip install 'edgec[{engine}]', with the version that the recipe names.",
                )
            made[f"{engine}-{decision.precision}-{decision.board}"] = first
            if decision.fallback and engine == portable.ENGINE:
                for feature in portable.EXACT[1:]:
                    name = f"{engine}-{decision.precision}-{feature}-{decision.board}"
                    made[name] = replace(first, built=replace(first.built, isa=(feature,)))
                made[f"{engine}-{decision.fallback}-{decision.board}"] = by[decision.fallback, engine]
    return made


def choices(shipped: Mapping[str, Candidate]) -> dict[str, Any]:
    """What a rebuild must choose again, for the recipe: payload id -> the emitter's choices."""
    made = {name: dict(c.built.choices) for name, c in shipped.items() if c.built.choices is not None}
    return {"choices": made} if made else {}


def accuracies(shipped: Mapping[str, Candidate], measured: Measured) -> dict[str, Any]:
    """Payload id -> accuracy, for the report."""
    found = {name: measured.accuracy.get(c.digest) for name, c in shipped.items()}
    return {name: {**a.as_dict(), "sqnr_db": a.sqnr} if a else None for name, a in found.items()}


def left_out(
    refused: Mapping[str, Mapping[str, str]],
    candidates: Mapping[str, Sequence[Candidate]],
    measured: Measured,
    decisions: Sequence[decide.Decision],
) -> dict[str, dict[str, str]]:
    """Board -> "engine-precision" -> why it has no such payload: of the decided precision and engines it may have."""
    made = {}
    for decision in decisions:
        several = candidates[decision.board]
        failed = {f"{c.engine}-{c.name}": measured.failed[c.digest] for c in several if c.digest in measured.failed}
        found = {**refused[decision.board], **failed}
        made[decision.board] = {n: why for n, why in found.items() if n.partition("-")[2] == decision.precision}
    return {board: why for board, why in made.items() if why}


def measure(
    candidates: Mapping[str, Sequence[Candidate]],
    yardstick: Yardstick,
    inputs: Inputs,
    request: Request,
    recipe: Recipe | None,
    progress: Progress,
) -> Measured:
    """Run each distinct payload with the device's adapter; where a board is this machine, time them against float32."""
    measured = Measured()
    distinct = {c.digest: c for several in candidates.values() for c in several}
    firsts = _firsts(candidates)
    answers: dict[str, list[Any]] = {}
    with progress("measuring accuracy", len(distinct)) as step:
        for digest, candidate in distinct.items():
            first = firsts[candidate.kind.board.name, candidate.name]
            if not candidate.runs_here:
                step(1)
                continue
            try:
                with executable(candidate.built) as run:
                    answers[digest] = [run(feed) for feed in inputs.checks]
                    measured.accuracy[digest] = yardstick.measure(run) if yardstick.usable else None
            except (UnsupportedError, MissingError) as e:
                if candidate is first:
                    raise
                measured.failed[digest] = f"{e.what}: {e.why}" if e.why else e.what
            step(1)
    for digest, candidate in distinct.items():
        first = firsts[candidate.kind.board.name, candidate.name]
        if digest in answers and candidate is not first:
            expected = answers[first.digest]
            if candidate.judge is not None:  # it leaves other layers in float: another model, by the same yardstick
                with executable(candidate.judge) as run:
                    expected = [run(feed) for feed in inputs.checks]
            found = overall_sqnr(expected, answers[digest])
            if found >= LEAST[candidate.built.numbers]:
                continue
            if why := _otherwise(candidate, expected, answers[digest], yardstick, inputs):
                measured.failed[digest] = f"it answers otherwise than {first.engine}: {found:.1f} dB{why}"
            else:
                measured.own_way.add(digest)
    if recipe is not None:
        measured.time_ratio = dict(recipe.measured.get("time_ratio", {}))
        measured.search = dict(recipe.measured.get("search", {}))
        return measured
    distinct = {digest: c for digest, c in distinct.items() if digest not in measured.failed}
    _confirm(measured, distinct, yardstick, request, progress)
    if request.precision == "auto" and inputs.samples:
        for name, several in candidates.items():
            if several[0].kind.target.name == "host":
                usable = [c for c in several if c.digest not in measured.failed]
                measured.time_ratio[name] = _times(usable, inputs, progress)
    return measured


def _otherwise(
    candidate: Candidate, expected: Sequence[Any], given: Sequence[Any], yardstick: Yardstick, inputs: Inputs
) -> str:
    """What speaks against a payload whose answers are not the expected ones; empty where nothing does.

    Of integers, those that are as near to the float model as the expected ones are good answers too: LiteRT takes the
    ranges of a matrix product's input anew at each call where its result stays float, which is other arithmetic.
    """
    if candidate.built.numbers != "int8":
        return "; in float the same is due"
    floats = [yardstick.reference(feed) for feed in inputs.checks]
    own, theirs = overall_sqnr(floats, given), overall_sqnr(floats, expected)
    return "" if own >= theirs - AS_NEAR else f"; it is {own:.1f} dB from the float model, {theirs:.1f} dB there"


def _firsts(candidates: Mapping[str, Sequence[Candidate]]) -> dict[tuple[str, str], Candidate]:
    """(board, precision) -> the payload that must run and that others are held against: the model's own engine's."""
    made: dict[tuple[str, str], Candidate] = {}
    for board, several in candidates.items():
        for candidate in sorted(several, key=lambda c: c.engine != portable.ENGINE):
            made.setdefault((board, candidate.name), candidate)
    return made


def _times(several: Sequence[Candidate], inputs: Inputs, progress: Progress) -> dict[str, float]:
    """ "engine-precision" -> time over that of the first float32 payload; nothing where there is but one."""
    base = next((c for c in several if c.name == decide.FLOAT), None)
    others = [c for c in several if c is not base and c.name != portable.NARROW]
    if base is None or not others:
        return {}
    with progress("timing against float32", len(others)) as step:
        found = {f"{base.engine}-{base.name}": 1.0}
        for candidate in others:
            ratio = time_ratio(candidate.built, base.built, inputs.samples[0])
            found[f"{candidate.engine}-{candidate.name}"] = ratio
            step(1)
    return found


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
    integers = {digest: c for digest, c in distinct.items() if c.precision != decide.FLOAT}
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
        return [decide.Decision.from_dict(d) for d in recipe.decisions]
    decisions = []
    for kind in kinds:
        several = candidates[kind.board.name]
        options = {(c.name, c.engine): _option(c, measured) for c in several if c.digest not in measured.failed}
        narrow = options.pop((portable.NARROW, portable.ENGINE), None)
        try:
            decision = decide.decide(
                kind.board.name,
                list(options.values()),
                precision=request.precision,
                max_drop=request.max_drop,
                note=note,
            )
        except BudgetError as missed:
            raise _with_points(missed, measured) from missed
        saturating = [
            c for c in several
            if c.name == decision.precision == "int8" and c.engine in decision.engines
            and set(c.built.isa) & set(portable.EXACT)
        ]  # fmt: skip
        if saturating and portable.may_saturate(kind.board.arch, kind.board.isa):
            decision = decide.fall_back(
                decision, narrow, has_float=(decide.FLOAT, portable.ENGINE) in options, precision=request.precision,
                max_drop=request.max_drop,
            )  # fmt: skip
        decisions.append(_explained(decision, several))
    return decisions


def predicted(shipped: Mapping[str, Candidate]) -> dict[str, Any]:
    """Payload id -> what the profile of its engine predicts for its board, in instructions: times don't leave here."""
    known = {name: c.predicted for name, c in shipped.items() if c.predicted is not None}
    return {name: found.as_dict() for name, found in known.items() if found.unit == "instructions"}


def _explained(decision: decide.Decision, several: Sequence[Candidate]) -> decide.Decision:
    """The decision with what is expected of its engines, where several ship and a profile orders them."""
    found = {c.engine: c.predicted for c in several if c.name == decision.precision and c.engine in decision.engines}
    known = {engine: estimate for engine, estimate in found.items() if estimate is not None}
    words = profiles.words(known) if next(iter(decision.engines), "") in known else ""
    return replace(decision, why=f"{decision.why}; {words}") if words else decision


def _option(candidate: Candidate, measured: Measured) -> decide.Option:
    """What was measured of a candidate."""
    return decide.Option(
        precision=candidate.name,
        engine=candidate.engine,
        accuracy=measured.accuracy.get(candidate.digest),
        size=candidate.size,
        time_ratio=measured.time_ratio.get(candidate.kind.board.name, {}).get(f"{candidate.engine}-{candidate.name}"),
        confirmed=measured.confirmed.get(candidate.digest),
    )
