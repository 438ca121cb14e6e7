"""The search on the zoo: budget → what was found, what it loses on the samples kept apart, its speed, its cost.

    python -m benchmarks.quantize_search [CASE …]

Each case under budgets of 1, 0.5 and 0.1 %, on this machine as the board (layers and candidates are timed), two
processes, an empty store for each case: the second and third budget reuse the trials of the first, as a user's would.
Drops are of the samples searched on and of those kept apart (of all, where the metric can't be split). Speed is float's
CPU time over the found model's. CPU seconds count all processes. Goes to results/quantize_search.json and into
docs/search.md; the rows of cases that are not asked for stay.

    python -m benchmarks.quantize_search --additive [CASE …]

How well a sum of single noises predicts the whole: 24 random assignments a case, predicted against measured decibels
(without corrections), beside two other predictions: layers one at a time in integers, and one at a time back to float.
Goes to results/quantize_search_additive.json.
"""

from __future__ import annotations

import datetime
import json
import re
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, zoo
from edgec import data, frontends, passes
from edgec.executors import Inline, Workers, workers
from edgec.quantize.search import Metric, Store, search, sensitivity
from edgec.quantize.search.cut import Balance
from edgec.quantize.search.lab import Lab
from edgec.quantize.search.prices import Prices
from edgec.quantize.search.setup import prepare
from edgec.quantize.session import Session

CASES = ("resnet8_cifar10", "ppocr_cls", "ultraface", "efficientnet_lite0")
BUDGETS = ("1%", "0.5%", "0.1%")
DOCS = Path(__file__).parents[1] / "docs" / "search.md"


def cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def load(case: str) -> tuple[Any, data.Dataset, data.Evaluation]:
    folder = zoo.folder(case)
    model = frontends.load(folder / "model.onnx").model
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    passes.run(model)
    return (
        model,
        data.load_calibration(f"{folder}/eval.py:feeds", inputs),
        data.load_evaluation(f"{folder}/eval.py:evaluate"),
    )


def one(case: str, budget: str, store: Store) -> dict[str, Any]:
    model, calibration, evaluation = load(case)
    before = cpu()
    with workers("local:2") as crew:
        found = search(
            model, calibration, budget=data.Budget.parse(budget), evaluation=evaluation, workers=crew, store=store,
            timed=True, smaller=True,
        )  # fmt: skip
    row: dict[str, Any] = {
        "cpu_s": round(cpu() - before, 1),
        "trials": dict(found.ran),
        "reused": dict(found.reused),
        "points": len(found.points),
        "costs": found.report["costs"],
        "metric": found.report["metric"],
        "float": found.report["float_value"],
        "why_not": found.why_not,
    }
    if found.quantized is None:
        return row
    point = found.report["points"][found.report["chosen"]]
    run, reference = Session(found.quantized.model).run, Session(model).run
    part: Any = "confirm" if found.report["confirmed_apart"] else "all"
    apart = Metric(evaluation, reference, 0, part)(run)
    return {
        **row,
        "floats": len(point["float_layers"]),
        "layers": len(found.report["layers"]),
        "searched_drop": point["drop"],
        "confirmed_drop": round(apart.drop, 5),
        "confirmed_on": apart.n,
        "confirmed": apart.keeps(data.Budget.parse(budget), None),
        "speed": point["speed"],
        "sqnr_db": point["sqnr_db"],
        "bytes": point["bytes"],
    }


def additive(case: str) -> dict[str, Any]:
    """Errors in decibels of three predictions of random assignments' noise."""
    from edgec.quantize.corrections.judge import Judge

    model, calibration, _ = load(case)
    setup = prepare(model, calibration.select(0, None, 4))
    lab = Lab(Workers(Inline(), lambda content: content, 1), Store())
    noise = sensitivity.measure(setup, lab).noise
    balance = Balance(setup.model, setup.plan, Prices(), noise)
    judge = Judge(setup.model, setup.samples[:16])

    def measured(floats: frozenset[str]) -> float:
        trial = setup.trial(lab, floats, corrections=False)
        (facts,) = lab.run([trial])
        return float(10 ** (-judge(setup.quantized(floats, facts, lab.model(trial)).model).sqnr / 10))

    every = setup.layers
    alone = {name: measured(every - {name}) for name in sorted(every)}
    whole = measured(frozenset())
    without = {name: max(0.0, whole - measured(frozenset({name}))) for name in sorted(every)}
    scale = whole / (sum(without.values()) or 1.0)
    rng, errors = np.random.default_rng(0), []
    for share in rng.uniform(0.05, 0.95, 24):
        floats = frozenset(n for n in sorted(every) if rng.random() < share)
        real = measured(floats)
        left = every - floats
        guesses = (
            balance.corner(floats).noise,
            sum(alone[n] for n in left),
            sum(without[n] for n in left) * scale,
        )
        errors.append([10 * np.log10(max(g, 1e-12) / max(real, 1e-12)) for g in guesses])
    table = np.array(errors)
    names = ("weights and values", "one layer in integers", "one layer back to float")
    return {
        name: {"rms_db": round(float(np.sqrt(np.mean(column**2))), 2), "spread_db": round(float(column.std()), 2)}
        for name, column in zip(names, table.T, strict=True)
    }


def write(figures: dict[str, Any]) -> None:
    rows = [
        "| model | budget | layers in float | drop searched / confirmed (n) | kept | speed | CPU s (trials) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for case, budgets in figures.items():
        for budget, r in budgets.items():
            trials = f"{r['cpu_s']} ({sum(r['trials'].values())} new, {sum(r['reused'].values())} reused)"
            if "speed" not in r:
                rows.append(f"| {case} | {budget} | – | {r['why_not']} | – | – | {trials} |")
                continue
            drops = f"{100 * r['searched_drop']:.2f} / {100 * r['confirmed_drop']:.2f} pt ({r['confirmed_on']})"
            kept = "yes" if r["confirmed"] else "no"
            floats = f"{r['floats']} of {r['layers']}"
            rows.append(f"| {case} | {budget} | {floats} | {drops} | {kept} | {r['speed']:.2f} | {trials} |")
    begin, end = "<!-- search: begin -->", "<!-- search: end -->"
    text = DOCS.read_text(encoding="utf-8")
    table = "\n".join(rows)
    text = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)
    DOCS.write_text(text, encoding="utf-8")


def main() -> None:
    asked = [a for a in sys.argv[1:] if not a.startswith("-")]
    if "--additive" in sys.argv:
        figures = {case: additive(case) for case in asked or CASES}
        for case, row in figures.items():
            print(case, row, flush=True)
        record.save(
            "quantize_search_additive", figures, unit="dB, predicted over measured noise, 24 random assignments"
        )
        return
    before = record.RESULTS / "quantize_search.json"
    figures = json.loads(before.read_text(encoding="utf-8"))["figures"] if before.exists() else {}
    for case in asked or CASES:
        store = Store()
        rows = {}
        for budget in BUDGETS:
            rows[budget] = {**one(case, budget, store), "date": datetime.date.today().isoformat()}
            print(case, budget, rows[budget], flush=True)
        figures[case] = rows
        record.save("quantize_search", figures, unit="as named; speed: CPU time of float32 over int8's, 1 thread")
        write(figures)


if __name__ == "__main__":
    main()
