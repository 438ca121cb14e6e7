"""The search: estimate all assignments, verify a few for real, refine where the budget's border lies.

1. The fastest assignment of all is built and measured. If it keeps the budget, that is the answer.
2. Each weight's and each value's noise is measured alone (`sensitivity.py`); minimum cuts give, for every exchange rate
   of time for noise, the best assignment (`cut.py`): a front from fastest to all float.
3. Two points of the front at a time are built with all corrections and measured, until the budget's border lies between
   two neighbours.
4. Between those two, layers go back to float one after the other, those that lose least time for the noise first.
5. The first and the last layers in float (`stretches.py`) are tried where that would be faster than what was found.
6. Of all that keep the budget the fastest is chosen; where this machine is the board, by its measured time. Where
   samples are kept apart to confirm it, the chance that they do is weighed in: what fails there ships as float.

Every step depends on results alone, never on which trial finished first, so an interrupted search goes on as if it had
not been.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

import onnx_ir as ir

from edgec.data import Budget, Dataset, Evaluation
from edgec.executors import Workers
from edgec.progress import Progress, silent
from edgec.quantize.pipeline import Quantized
from edgec.quantize.scheme import Scheme
from edgec.quantize.search import measured, outcome, sensitivity
from edgec.quantize.search.cut import Balance, Corner, Noise
from edgec.quantize.search.lab import Lab
from edgec.quantize.search.meter import Likeness, Meter, Metric
from edgec.quantize.search.outcome import Found, Point
from edgec.quantize.search.prices import Prices, Sizes
from edgec.quantize.search.setup import Setup, prepare
from edgec.quantize.search.store import Store
from edgec.quantize.search.stretches import stretches
from edgec.quantize.search.verify import Verifier
from edgec.quantize.session import Session
from edgec.request import Method

TOGETHER = 2  # assignments built at a time, whatever the number of workers: it is part of the result
REFINEMENTS = 2  # rounds between the last that fails and the first that keeps
SAMPLES = 256  # inputs on which likeness is taken where there is no evaluation


def search(
    model: ir.Model,
    data: Dataset,
    *,
    budget: Budget,
    workers: Workers,
    store: Store,
    evaluation: Evaluation | None = None,
    confidence: float | None = None,
    method: Method = "minmax",
    exclude: Collection[str] = (),
    scheme: Scheme | None = None,
    placement: str = "onnxruntime",
    arch: str = "x86_64",
    timed: bool = False,
    smaller: bool = True,
    seed: int = 0,
    progress: Progress = silent,
) -> Found:
    """The fastest assignment of a model that keeps a budget.

    Args:
        model: float model (opset ≥ 13), best after the passes; not changed.
        data: calibration feeds.
        budget: how much of the metric may be lost.
        workers: who runs the trials (`edgec.executors.workers`).
        store: who keeps them.
        evaluation: the user's metric; None: likeness to the float model on the calibration feeds.
        confidence: the budget must hold for the drop's upper bound at it.
        method: how ranges are taken.
        exclude: names or operator types of nodes that stay float.
        scheme: number formats; None: the engine's own.
        placement: whose fusion rules decide.
        arch: the architecture whose kernels the formulas are asked for.
        timed: this machine is the board: costs and candidates are measured on it.
        smaller: whether a model that is smaller and not faster is wanted too.
        seed: of the split of the evaluation's samples.
        progress: of each long step.

    Raises:
        BudgetError: too few samples for the confidence.
        UsageError, BadInputError, UnsupportedError: as `quantize_with_data`, or the evaluation fails.
    """
    setup = prepare(model, data, method=method, exclude=exclude, scheme=scheme, placement=placement, progress=progress)
    lab = Lab(workers, store)
    with progress("scoring the float model", None):
        meter = _meter(setup, data, evaluation, budget, confidence, seed)
    verify = Verifier(setup, lab, meter, budget, confidence, progress)
    if timed:
        with progress("timing the layers", None):
            prices = measured.prices(setup, lab)
    else:
        prices = Prices(known=arch in setup.rules.timed)
    found: sensitivity.Sensitivity | None = None
    balance = Balance(setup.model, setup.plan, prices, Noise({}, {}))
    first, why_not = balance.cut(0.0), ""
    if not balance.integers(first.floats) and smaller:
        prices = Sizes()
        balance = Balance(setup.model, setup.plan, prices, Noise({}, {}))
        first = balance.cut(0.0)
    if not balance.integers(first.floats):
        why_not = "integers are faster nowhere in this model: its float kernels win, conversions counted"
    else:
        verify([first])
        if not verify.keeps(first):
            with progress("noise of each layer", sensitivity.count(setup)) as step:
                found = sensitivity.measure(setup, lab, step)
            balance = Balance(setup.model, setup.plan, prices, found.noise)
            for point in verify.points.values():
                point.corner = balance.corner(point.corner.floats)
            _refine(verify, balance, *_bracket(verify, balance.front()))
            _stretch(verify, stretches(setup, balance, first.floats), balance.corner(setup.layers).time)
    if timed:
        verify.time()
    points = sorted(verify.points.values(), key=lambda p: (p.corner.time, sorted(p.corner.floats)))
    keeping = [point for point in points if point.kept]
    reference = balance.corner(setup.layers).time
    chosen = max(keeping, key=lambda p: _worth(p, reference)) if keeping else None
    if chosen is None and not why_not:
        why_not = f"no assignment keeps the budget of {budget}"
    described = outcome.report(
        setup, budget, confidence, prices, balance, found, points, chosen, split=meter.split, why_not=why_not
    )
    quantized = None if chosen is None else _make(setup, lab, chosen.corner.floats)
    lab.finish()
    return Found(quantized, described, points, why_not, dict(lab.ran), dict(lab.reused))


def replay(
    model: ir.Model,
    data: Dataset,
    report: Mapping[str, Any],
    *,
    workers: Workers,
    store: Store,
    method: Method = "minmax",
    exclude: Collection[str] = (),
    scheme: Scheme | None = None,
    placement: str = "onnxruntime",
    progress: Progress = silent,
) -> Quantized:
    """The model that a search found, made again from its report without searching: the same bytes.

    Args as `search`; `report` is `Found.report` of a search that found something.
    """
    setup = prepare(model, data, method=method, exclude=exclude, scheme=scheme, placement=placement, progress=progress)
    lab = Lab(workers, store)
    with progress("building the assignment", None):
        made = _make(setup, lab, frozenset(report["floats"]))
    lab.finish()
    return made


def _make(setup: Setup, lab: Lab, floats: frozenset[str]) -> Quantized:
    trial = setup.trial(lab, floats)
    (facts,) = lab.run([trial])
    return setup.quantized(floats, facts, lab.model(trial, exact=True))


def _meter(
    setup: Setup, data: Dataset, evaluation: Evaluation | None, budget: Budget, confidence: float | None, seed: int
) -> Meter:
    reference = Session(setup.model).run
    if evaluation is None:
        return Likeness(reference, list(islice(iter(data), SAMPLES)))
    metric = Metric(evaluation, reference, seed)
    metric.demand(budget, confidence)
    return metric


def _bracket(verify: Verifier, front: list[Corner]) -> tuple[Corner, Corner]:
    """The last that fails and the first that keeps (all float at the end) of neighbours on the front."""
    low, high = 0, len(front) - 1
    while high - low > 1:
        step = max(1, (high - low) // (TOGETHER + 1))
        picks = [i for n in range(1, TOGETHER + 1) if low < (i := low + n * step) < high]
        verify([front[i] for i in picks])
        keeps = [i for i in picks if verify.keeps(front[i])]
        high = keeps[0] if keeps else high
        low = max((i for i in picks if i < high), default=low)
    return front[low], front[high]


def _refine(verify: Verifier, balance: Balance, fails: Corner, keeps: Corner) -> None:
    """Layers of the failing one back to float, those that lose least time for the noise first."""
    steps = [c for c in _towards(balance, fails, keeps.floats) if c.time < keeps.time and balance.integers(c.floats)]
    for _ in range(REFINEMENTS):
        if not steps:
            return
        picks = sorted({(n + 1) * len(steps) // (TOGETHER + 1) for n in range(TOGETHER)})
        verify([steps[i] for i in picks])
        good = [i for i in picks if verify.keeps(steps[i])]
        end = good[0] if good else len(steps)
        start = max((i + 1 for i in picks if i < end), default=0)
        steps = steps[start:end]


def _stretch(verify: Verifier, offered: list[Corner], slowest: float) -> None:
    """Of stretches in float that would be faster than all that keeps, those of the least expected noise."""
    best = min((p.corner.time for p in verify.points.values() if verify.keeps(p.corner)), default=slowest)
    verify([c for c in offered if c.time < best][:TOGETHER])


def _towards(balance: Balance, start: Corner, goal: frozenset[str]) -> list[Corner]:
    """Assignments between two, each with one layer more in float."""
    made: list[Corner] = []
    now, left = start, set(goal - start.floats)
    while len(left) > 1:

        def gain(name: str, now: Corner = now) -> tuple[float, str]:
            then = balance.corner(now.floats | {name})
            less, more = now.noise - then.noise, then.time - now.time
            return (less / more if more > 0 else float("inf") if less > 0 else less, name)

        best = max(left, key=gain)
        left.discard(best)
        now = balance.corner(now.floats | {best})
        made.append(now)
    return made


def _worth(point: Point, reference: float) -> tuple[float, float, list[str]]:
    """The speed to expect of choosing a point, as measured, else as reckoned: float's where it isn't confirmed."""
    speed = point.speed or reference / max(point.corner.time, 1e-9)
    return (point.chance * speed + (1 - point.chance), -point.corner.time, sorted(point.corner.floats))
