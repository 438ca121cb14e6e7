"""The forms of a fused model, by the quantization room; int8 by one recipe for all layers or a search in the budget."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import onnx_ir as ir

from edgec import decide, executors, quantize
from edgec.bundle.recipe import Recipe
from edgec.data import Budget
from edgec.errors import BudgetError, UnsupportedError, UsageError
from edgec.progress import Progress
from edgec.quantize import forms, portable, search
from edgec.quantize.placement.share import name
from edgec.quantize.placement.worth import Worth
from edgec.request import FORMS, Request
from edgec.stages import replay
from edgec.stages.boards import Kind
from edgec.stages.inputs import Inputs
from edgec.stages.splits import Splits
from edgec_targets.types import Board


@dataclass(frozen=True)
class Group:
    """Boards that share models: the passes that their target wants, and the architecture whose kernels decide.

    `arch` is empty where one model serves several architectures, as a search's does. `alike` makes int8 models such
    that all engines compute the same bits.
    """

    passes: tuple[str, ...] | None
    arch: str
    alike: Callable[[ir.Model], ir.Model] | None = None


def group(kind: Kind, request: Request) -> Group:
    """Where a board belongs. What a search finds holds for one model, so it makes one for all."""
    return Group(kind.target.passes, "" if request.effort == "search" else kind.board.arch, kind.target.alike)


def groups(kinds: Sequence[Kind], request: Request) -> dict[Group, list[Board]]:
    """The boards by what they share, in the order in which they were asked for."""
    made: dict[Group, list[Board]] = {}
    for kind in kinds:
        made.setdefault(group(kind, request), []).append(kind.board)
    return made


@dataclass(frozen=True)
class Quantized:
    """Models by the names that `choose.wanted` uses, and what the report tells of them.

    Attributes:
        models: "int8", its variant with seven-bit weights for boards whose CPUs may saturate, and other forms; those
            that could be made. Where engines leave other layers in float, "int8.2" and so on beside "int8".
        reports: the same names -> plain data.
        named: (board, engine) -> name of its int8 model, where that is not "int8".
        why_not: why a model that was wanted is not there.
        searched: what a search for each of these models found (`search.Found.report`).
    """

    models: Mapping[str, ir.Model] = field(default_factory=dict)
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    why_not: str = ""
    searched: Mapping[str, Any] = field(default_factory=dict)
    named: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def own(self, board: str) -> dict[str, ir.Model]:
        """Engine -> its int8 model, for those of a board that have one of their own."""
        return {engine: self.models[name] for (where, engine), name in self.named.items() if where == board}

    def shown(self, shipped: Collection[str]) -> dict[str, Any]:
        """What report.json says of the precisions that ship: a recipe replays what was decided, not what was tried."""
        made: dict[str, Any] = {}
        if "int8" in shipped and "int8" in self.reports:
            made = dict(self.reports["int8"])
            if portable.NARROW in self.reports:
                made[portable.NARROW] = dict(self.reports[portable.NARROW])
            for name in sorted(set(self.named.values())):
                whose = [f"{engine} on {board}" for (board, engine), its in self.named.items() if its == name]
                made[name] = {"for": whose, **self.reports[name]}
        for form in FORMS:
            if form in shipped and form in self.reports:
                made[form] = dict(self.reports[form])
        return {**made, "search": dict(self.searched)} if self.searched else made


@dataclass
class Already:
    """What a compile has made, for boards that need the same: by model (its identity), scheme and split."""

    quantized: dict[tuple[int, quantize.Scheme, Any], quantize.Quantized] = field(default_factory=dict)
    alike: dict[int, tuple[ir.Model, ir.Model]] = field(default_factory=dict)

    def made_alike(self, model: ir.Model, alike: Callable[[ir.Model], ir.Model]) -> ir.Model:
        """A model that all engines compute alike. The one given is held, so that its identity stays its own."""
        if id(model) not in self.alike:
            self.alike[id(model)] = model, alike(model)
        return self.alike[id(model)][1]


def run(
    model: ir.Model,
    inputs: Inputs,
    request: Request,
    boards: Sequence[Board],
    wanted: Collection[str],
    progress: Progress,
    alike: Callable[[ir.Model], ir.Model] | None = None,
    recipe: Recipe | None = None,
    executor: str = "local",
    splits: Splits | None = None,
    already: Already | None = None,
) -> Quantized:
    """Bring a copy of `model` into every precision that is wanted of it.

    Args:
        model: after the passes.
        inputs: with calibration data where int8 is wanted.
        request: what was asked.
        boards: that the models are for.
        wanted: names of precisions (`choose.wanted`).
        progress: told of each long step.
        alike: see `Group`.
        recipe: where it holds what a search found, that is made again instead of searched for.
        executor: where a search's trials run (`edgec.executors.workers`).
        splits: what each engine of each board computes in integers (`splits.splits`).
        already: int8 models of this compile, for groups that need the same.

    Raises:
        UnsupportedError: a precision was asked for by name and the model can't take it.
        BudgetError: int8 was asked for by name and no assignment keeps the budget.
    """
    already = already or Already()
    narrow = any(portable.may_saturate(board.arch, board.isa) for board in boards)
    made = Quantized()
    if "int8" in wanted:
        try:
            if request.effort == "search":
                made = _searched(model, inputs, request, boards, narrow, progress, recipe, executor)
            else:
                made = _quantized(model, inputs, request, boards, narrow, progress, splits or {}, already)
        except UnsupportedError as e:
            if request.precision == "int8":
                raise
            made = Quantized(why_not=f"{e.what}: {e.why}")
    if alike is not None:
        made = replace(made, models={name: already.made_alike(found, alike) for name, found in made.models.items()})
    for form in FORMS:
        if form not in wanted:
            continue
        wish = forms.Wish(
            data=inputs.calibration, exclude=request.exclude, method=request.method, effort=request.effort,
            arch=_arch(boards), narrow=narrow, insist=request.precision == form,
        )  # fmt: skip
        try:
            found = forms.make(form, model, wish, progress)
        except UnsupportedError:
            if request.precision == form:
                raise
            continue
        made = replace(made, models={**made.models, form: found.model}, reports={**made.reports, form: found.report})
    return made


def _quantized(
    model: ir.Model, inputs: Inputs, request: Request, boards: Sequence[Board], narrow: bool, progress: Progress,
    splits: Splits, already: Already,
) -> Quantized:  # fmt: skip
    """All layers by one recipe; a model for each split that the engines of these boards have."""

    def make(scheme: quantize.Scheme, worth: Worth | None) -> quantize.Quantized:
        assert inputs.calibration is not None and request.effort != "search"
        key = id(model), scheme, _arch(boards) if worth is None else name(worth)
        if key not in already.quantized:
            already.quantized[key] = quantize.quantize_with_data(
                model,
                inputs.calibration,
                method=request.method,
                exclude=request.exclude,
                scheme=scheme,
                effort=request.effort,
                arch=_arch(boards),
                worth=worth,
                progress=progress,
            )
        return already.quantized[key]

    own = {key: worth for key, worth in splits.items() if key[0] in {board.name for board in boards}}
    # The model's own engine's is "int8": seven-bit weights and engines without known costs go with it.
    main = next((w for (_, engine), w in own.items() if engine == portable.ENGINE), next(iter(own.values()), None))
    made = {"int8": make(quantize.Scheme(), main)}
    if narrow:
        made[portable.NARROW] = make(portable.narrow(quantize.Scheme()), main)
    names = {name(main): "int8"} if main is not None else {}
    named: dict[tuple[str, str], str] = {}
    for key, worth in own.items():
        if name(worth) not in names:
            names[name(worth)] = f"int8.{len(names) + 1}"
            made[names[name(worth)]] = make(quantize.Scheme(), worth)
        if names[name(worth)] != "int8":
            named[key] = names[name(worth)]
    return Quantized({n: q.model for n, q in made.items()}, {n: q.report(model) for n, q in made.items()}, named=named)


def _searched(
    model: ir.Model, inputs: Inputs, request: Request, boards: Sequence[Board], narrow: bool, progress: Progress,
    recipe: Recipe | None, executor: str,
) -> Quantized:  # fmt: skip
    """The fastest mixture within the budget; each width of weights has its own search, the budget holds for both."""
    assert inputs.calibration is not None
    schemes = {"int8": quantize.Scheme()}
    if narrow:
        schemes[portable.NARROW] = portable.narrow(quantize.Scheme())
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
                reports[name] = known = replay.searched(recipe, name)
                if known["floats"] is not None:
                    models[name] = search.replay(model, inputs.calibration, known, store=search.Store(None), **common)
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
        return Quantized(why_not=why_not, searched=reports)
    return Quantized(
        {n: q.model for n, q in models.items()}, {n: q.report(model) for n, q in models.items()}, searched=reports
    )


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


def _arch(boards: Sequence[Board]) -> str:
    """The architecture whose kernels decide; empty where one model serves several."""
    archs = {board.arch for board in boards}
    return archs.pop() if len(archs) == 1 else ""


def _tell(text: str) -> None:
    """What went wrong with the store: a warning, the search goes on."""
    warnings.warn(text, stacklevel=2)
