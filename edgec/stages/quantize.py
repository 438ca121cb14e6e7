"""The int8 model of a fused one, by the quantization room: one recipe for all layers, or a search within the budget."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

import edgec_targets
from edgec import decide, executors, quantize
from edgec.bundle.recipe import Recipe
from edgec.data import Budget
from edgec.errors import BudgetError, UnsupportedError, UsageError
from edgec.progress import Progress
from edgec.quantize import portable, search
from edgec.request import Request
from edgec.stages.inputs import Inputs
from edgec_targets.types import Board


@dataclass(frozen=True)
class Quantized:
    """The int8 model, None with the reason where no layer can be int8, and what the report tells of it.

    `narrow` is its variant with seven-bit weights, for boards whose CPUs may saturate; None where no board needs it.
    `searched` is what a search for each of these models found (`search.Found.report`), by the names of `models`.
    """

    model: ir.Model | None
    report: Mapping[str, Any] | None
    why_not: str = ""
    narrow: ir.Model | None = None
    searched: Mapping[str, Any] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, ir.Model]:
        """What can be emitted, by the names that `choose.wanted` uses."""
        made = {"int8": self.model, portable.NARROW: self.narrow}
        return {name: model for name, model in made.items() if model is not None}


def run(
    model: ir.Model,
    inputs: Inputs,
    request: Request,
    progress: Progress,
    *,
    recipe: Recipe | None = None,
    executor: str = "local",
) -> Quantized:
    """Quantize a copy of `model`.

    Args:
        model: after the passes.
        inputs: with calibration data.
        request: what was asked.
        progress: told of each long step.
        recipe: where it holds what a search found, that is made again instead of searched for.
        executor: where a search's trials run (`edgec.executors.workers`).

    Raises:
        UnsupportedError: int8 was asked for by name and nothing can be int8.
        BudgetError: int8 was asked for by name and no assignment keeps the budget.
    """
    assert inputs.calibration is not None, "gather() refuses int8 without data"
    boards = [edgec_targets.board(name) for name in request.boards]
    narrow = any(portable.may_saturate(board.arch, board.isa) for board in boards)
    try:
        if request.effort == "search":
            return _searched(model, inputs, request, boards, narrow, progress, recipe, executor)
        return _quantized(model, inputs, request, boards, narrow, progress)
    except UnsupportedError as e:
        if request.precision == "int8":
            raise
        return Quantized(None, None, f"{e.what}: {e.why}")


def _quantized(
    model: ir.Model, inputs: Inputs, request: Request, boards: list[Board], narrow: bool, progress: Progress
) -> Quantized:
    """All layers by one recipe."""

    def make(scheme: quantize.Scheme) -> quantize.Quantized:
        assert inputs.calibration is not None and request.effort != "search"
        return quantize.quantize_with_data(
            model,
            inputs.calibration,
            method=request.method,
            exclude=request.exclude,
            scheme=scheme,
            effort=request.effort,
            arch=_arch(boards),
            progress=progress,
        )

    made = make(quantize.Scheme())
    report = made.report(model)
    if not narrow:
        return Quantized(made.model, report)
    seven = make(portable.narrow(quantize.Scheme()))
    return Quantized(made.model, {**report, portable.NARROW: seven.report(model)}, narrow=seven.model)


def _searched(
    model: ir.Model, inputs: Inputs, request: Request, boards: list[Board], narrow: bool, progress: Progress,
    recipe: Recipe | None, executor: str,
) -> Quantized:  # fmt: skip
    """The fastest mixture within the budget; each width of weights has its own search, the budget holds for both."""
    assert inputs.calibration is not None
    schemes = {"int8": quantize.Scheme()}
    if narrow:
        schemes[portable.NARROW] = portable.narrow(quantize.Scheme())
    known = dict(recipe.measured.get("search", {})) if recipe is not None else {}
    measurable = all(board.name == "host" for board in boards)
    models: dict[str, quantize.Quantized] = {}
    reports: dict[str, Any] = {}
    why_not = ""
    with executors.workers("local:1" if recipe else executor) as crew:
        for name, scheme in schemes.items():
            common: dict[str, Any] = {
                "method": request.method, "exclude": request.exclude, "scheme": scheme, "workers": crew,
                "progress": progress,
            }  # fmt: skip
            if recipe is not None:
                reports[name] = known[name]
                if known[name]["floats"] is not None:
                    models[name] = search.replay(
                        model, inputs.calibration, known[name], store=search.Store(None), **common
                    )
                continue
            store = search.Store(search.default_path(), tell=_tell)
            try:
                found = search.search(
                    model, inputs.calibration, budget=Budget.parse(request.max_drop or decide.DEFAULT_DROP),
                    evaluation=inputs.evaluation, confidence=request.confidence, arch=_arch(boards),
                    timed=measurable, smaller=request.precision == "int8" or not measurable, seed=request.seed,
                    store=store, **common,
                )  # fmt: skip
            finally:
                store.close()
            reports[name] = found.report
            if found.quantized is not None:
                models[name] = found.quantized
            elif request.precision == "int8":
                raise missed(found.report, found.why_not)
            else:
                why_not = why_not or _sentence(found)
                if name == "int8":
                    break  # nothing to fall back from
    if "int8" not in models:
        return Quantized(None, {"search": reports}, why_not, searched=reports)
    report = {**models["int8"].report(model), "search": reports}
    if portable.NARROW in models:
        report[portable.NARROW] = models[portable.NARROW].report(model)
    seven = models.get(portable.NARROW)
    return Quantized(models["int8"].model, report, narrow=seven.model if seven else None, searched=reports)


def _sentence(found: search.Found) -> str:
    """Why a search found nothing, with the best that there was."""
    points = search.in_words(found.report["points"])
    return f"{found.why_not}; the best found: {points}" if points else found.why_not


def searches(made: Collection[Quantized]) -> Mapping[str, Any]:
    """What the searches of a compile found, by the models' names.

    Raises UsageError where boards want different passes: what one search found holds for one model.
    """
    found = [q.searched for q in made if q.searched]
    if len(found) > 1:
        raise UsageError(
            "--effort search can't serve all these boards at once",
            "Their targets want the model in different forms.",
            "Compile for them one by one.",
            code="E218",
        )
    return found[0] if found else {}


def missed(report: Mapping[str, Any], why_not: str) -> BudgetError:
    """Exit 3: the best points of the search, and what would help."""
    points = search.in_words(report["points"])
    floats = report["float_value"]
    return BudgetError(
        f"int8 does not keep the budget: {why_not}",
        f"{report['metric']} is {floats:.4g} in float. The best found: {points}." if points else "",
        "Allow more, give more calibration data (a few hundred inputs), look at what the noisiest layers are "
        "(edgec inspect --why), keep them in float (--exclude NODE), or use --precision auto.",
        code="E301",
    )


def _arch(boards: list[Board]) -> str:
    """The architecture whose kernels decide; empty where one model serves several."""
    archs = {board.arch for board in boards}
    return archs.pop() if len(archs) == 1 else ""


def _tell(text: str) -> None:
    """What went wrong with the store: a warning, the search goes on."""
    warnings.warn(text, stacklevel=2)
