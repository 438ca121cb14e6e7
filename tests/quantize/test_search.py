"""The search keeps its budget, ends early where it can, and gives the same result however it was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.data import Budget, Dataset, Evaluation
from edgec.errors import BadInputError, UnsupportedError
from edgec.executors import Inline, Workers
from edgec.quantize.search import Metric, Store, in_words, replay
from edgec.quantize.search.trials import to_bytes
from edgec.quantize.session import Session
from tests.quantize.search_cases import Case, find, small_case, tight

HERE = Workers(Inline(), lambda data: data, 1)


@pytest.fixture(scope="module")
def case() -> Case:
    return small_case()


@pytest.fixture(scope="module")
def found(case: Case) -> Any:
    return find(case, HERE)


def test_what_is_found_keeps_the_budget_and_is_faster_than_float(case: Case, found: Any) -> None:
    """All integer doesn't keep it; some layers go back to float, the others stay integer."""
    report = found.report
    assert [p["within_budget"] for p in report["points"] if not p["float_layers"]] == [False]
    assert report["floats"] and {r["precision"] for r in report["layers"] if r["op_type"] == "Conv"} >= {"int8"}
    assert report["points"][report["chosen"]]["within_budget"]
    run = Session(found.quantized.model).run
    reading = Metric(case.evaluation, Session(case.model).run)(run)
    assert reading.keeps(Budget.parse(tight()), None)
    chosen = report["points"][report["chosen"]]
    assert reading.value == pytest.approx(chosen["value"])
    assert chosen["expected_time"] < 1


def test_the_other_half_confirms_it(case: Case, found: Any) -> None:
    reading = Metric(case.evaluation, Session(case.model).run, 0, "confirm")(Session(found.quantized.model).run)
    assert reading.keeps(Budget.parse(tight()), None)
    assert reading.n == 60


def test_where_all_integer_keeps_the_budget_nothing_is_searched(case: Case) -> None:
    easy = find(case, HERE, budget="50%")
    assert easy.report["floats"] == [] and easy.ran == {"build": 1, "reading": 1}


def test_where_nothing_keeps_it_the_best_points_are_told(case: Case) -> None:
    none = find(case, HERE, budget="0")
    assert none.quantized is None and "no assignment keeps the budget" in none.why_not
    points = none.report["points"]
    assert none.report["chosen"] is None and len(points) >= 3
    assert not any(p["within_budget"] for p in points)
    assert "layers in float" in in_words(points)
    times = [p["expected_time"] for p in points]
    assert times == sorted(times)


def test_replaying_the_report_makes_the_same_bytes_without_searching(case: Case, found: Any) -> None:
    import json

    report = json.loads(json.dumps(found.report))
    again = replay(case.model, case.data, report, workers=HERE, store=Store())
    assert to_bytes(again.model) == to_bytes(found.quantized.model)
    assert again.assignment == found.quantized.assignment
    assert again.report(case.model) == found.quantized.report(case.model)


class Backwards(Executor):
    """Finishes calls in another order than they came, in a thread of its own."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._waiting.append((future, lambda: fn(*args, **kwargs)))
            if len(self._waiting) == 1:
                threading.Thread(target=self._run, daemon=True).start()
        return future

    def _run(self) -> None:
        time.sleep(0.05)
        with self._lock:
            waiting, self._waiting = self._waiting[::-1], []
        for future, call in waiting:
            future.set_result(call())


def test_the_order_in_which_trials_finish_changes_nothing(case: Case, found: Any) -> None:
    other = find(case, Workers(Backwards(), lambda data: data, 1))
    assert other.report == found.report
    assert to_bytes(other.quantized.model) == to_bytes(found.quantized.model)


KILLED = """
import os, signal, sys
from pathlib import Path
from edgec.executors import workers
from edgec.quantize.search import Store
from tests.quantize.search_cases import find, small_case

import edgec.quantize.search.lab as lab

lab.code = lambda: "the code of this test"  # the source tree may change while it runs

class Dying(Store):
    left = int(sys.argv[2])
    def put(self, key, kind, value):
        super().put(key, kind, value)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

with workers("local:1") as crew:
    find(small_case(), crew, budget=sys.argv[3], store=Dying(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("after", [9])
def test_killed_half_way_and_resumed_it_gives_what_it_would_have_given(
    case: Case, found: Any, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgec.quantize.search.lab.code", lambda: "the code of this test")
    path = tmp_path / "search.sqlite"
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(after), tight()], cwd=root, timeout=120, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = Store(path)
    resumed = find(case, HERE, store=store)
    assert resumed.report == found.report
    assert to_bytes(resumed.quantized.model) == to_bytes(found.quantized.model)
    total = sum(found.ran.values())
    assert sum(resumed.ran.values()) == total - after, "finished trials are not run again"
    assert resumed.reused
    again = find(case, HERE, store=store)
    assert again.report == found.report
    assert sum(again.ran.values()) == 0
    store.close()


def test_other_data_are_other_trials(case: Case, tmp_path: Path) -> None:
    store = Store(tmp_path / "s.sqlite")
    first = find(case, HERE, store=store, budget="50%")
    fewer = Dataset.of(list(case.data)[:10], case.model.graph.inputs)
    other = find(Case(case.model, fewer, case.evaluation, case.inputs), HERE, store=store, budget="50%")
    assert first.ran == other.ran and not other.reused
    store.close()


def test_noise_of_parts_adds_up_to_the_whole(case: Case) -> None:
    """Lin et al. 2016: the sum over weights and values predicts the whole model's noise, here within 3 dB."""
    from edgec.quantize.corrections.judge import Judge
    from edgec.quantize.search import sensitivity
    from edgec.quantize.search.cut import Balance
    from edgec.quantize.search.lab import Lab
    from edgec.quantize.search.prices import Prices
    from edgec.quantize.search.setup import prepare

    setup = prepare(case.model, case.data)
    lab = Lab(HERE, Store())
    noise = sensitivity.measure(setup, lab).noise
    balance = Balance(setup.model, setup.plan, Prices(known=False), noise)
    judge = Judge(setup.model, list(case.data))
    for floats in ([], ["conv1", "conv2"], ["conv0"], ["conv1", "conv2", "classes"]):
        trial = setup.trial(lab, floats, corrections=False)
        lab.run([trial])
        built = setup.quantized(floats, lab.run([trial])[0], lab.model(trial)).model
        expected = -10 * np.log10(balance.corner(frozenset(floats)).noise)
        assert judge(built).sqnr == pytest.approx(expected, abs=3), floats


def test_without_evaluation_likeness_on_the_calibration_inputs_decides(case: Case) -> None:
    found = find(case, HERE, evaluation=None, budget="20%")
    assert found.report["metric"] in ("agreement", "closeness", "direction")
    assert found.report["searched_on"] == 12 and not found.report["confirmed_apart"]


def test_one_sample_is_enough_to_search() -> None:
    tiny = small_case(samples=1, evaluated=4)
    found = find(tiny, HERE, budget="90%")
    assert found.quantized is not None


def test_a_model_without_layers_is_refused(case: Case) -> None:
    with pytest.raises(UnsupportedError, match="no layer"):
        find(case, HERE, exclude=["Conv", "Gemm"])


def test_a_metric_that_fails_stops_the_search_with_its_words(case: Case) -> None:
    def broken(run: Any, indices: Any = None) -> Any:
        run({"x": case.inputs[0]})
        raise KeyError("labels")

    with pytest.raises(BadInputError) as problem:
        find(case, HERE, evaluation=Evaluation(broken, "mine.py:broken"))
    assert "labels" in problem.value.why


def test_a_confidence_is_searched_for_too(case: Case) -> None:
    sure = find(case, HERE, confidence=0.95, budget="12%")
    assert sure.report["confidence"] == 0.95
    if sure.quantized is not None:
        reading = Metric(case.evaluation, Session(case.model).run)(Session(sure.quantized.model).run)
        assert reading.keeps(Budget.parse("12%"), 0.95)
