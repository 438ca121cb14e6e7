"""The search inside a compile: what ships keeps the budget on samples kept apart, and a rebuild doesn't search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from click.testing import CliRunner

import edgec_runtime.bundle as reader
from edgec.cli import edgec as group
from edgec.compiler import Compiled, compile
from edgec.errors import BudgetError, UsageError
from edgec.rebuild import rebuild
from tests.quantize.search_cases import small_case, tight

MINE = """
import numpy as np
import onnxruntime

inputs = np.load({folder!r} + "/inputs.npy")
session = onnxruntime.InferenceSession({folder!r} + "/model.onnx", providers=["CPUExecutionProvider"])
expected = [session.run(None, {{"x": x}})[0] for x in inputs]
spread = float(np.std(expected))


def evaluate(run, indices=None):
    chosen = range(len(inputs)) if indices is None else indices
    errors = [float(np.abs(run({{"x": inputs[i]}})[0] - expected[i]).max()) / spread for i in chosen]
    values = [max(0.0, 1.0 - e) for e in errors]
    return {{"metric": "nearness", "value": float(np.mean(values)), "n": len(values), "per_sample": values}}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    case = small_case(evaluated=60)
    ir.save(case.model, folder / "model.onnx")
    np.savez(folder / "calib.npz", x=np.concatenate([feed["x"] for feed in case.data]))
    np.save(folder / "inputs.npy", np.stack(case.inputs))
    (folder / "mine.py").write_text(MINE.format(folder=str(folder)))
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "cache"))


def made(files: Path, output: Path, **asked: Any) -> Compiled:
    """Compiled for an ARM board: its costs are the same on every machine."""
    options = {
        "effort": "search",
        "max_drop": tight(),
        "executor": "local:1",
        "eval": f"{files}/mine.py:evaluate",
        **asked,
    }
    return compile(files / "model.onnx", "rpi4", output=output, calib=f"{files}/calib.npz", **options)


def again(files: Path, path: Path) -> dict[str, Any]:
    return rebuild(path, files / "model.onnx", calib=f"{files}/calib.npz", eval=f"{files}/mine.py:evaluate")


def test_a_mixture_ships_and_is_rebuilt_without_searching(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = made(files, tmp_path / "m.edge")
    payload = compiled.manifest["payloads"][0]
    assert payload["precision"] == "int8"
    assert "kept apart to confirm" in compiled.decisions[0].why
    report = compiled.report["quantization"]
    floats = report["search"]["int8"]["floats"]
    precisions = {row["name"]: row["precision"] for row in report["layers"] if row["name"].startswith(("conv", "cl"))}
    assert floats and all(precisions[name] == "float32" for name in floats if name in precisions)
    assert "int8" in precisions.values()
    with reader.open(tmp_path / "m.edge") as bundle:
        recipe = json.loads(bundle.read(bundle.manifest["recipe"]))
    assert recipe["measured"]["search"] == report["search"]

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("a rebuild searched")

    monkeypatch.setattr("edgec.quantize.search.search", never)
    monkeypatch.setenv("EDGEC_CACHE", str(tmp_path / "another"))
    assert again(files, tmp_path / "m.edge")["identical"]


def test_auto_ships_float_where_nothing_keeps_the_budget_and_shows_the_points(files: Path, tmp_path: Path) -> None:
    compiled = made(files, tmp_path / "f.edge", max_drop="0")
    assert compiled.manifest["payloads"][0]["precision"] == "float32"
    assert "no assignment keeps the budget" in compiled.decisions[0].why
    assert len(compiled.report["quantization"]["search"]["int8"]["points"]) >= 3
    assert again(files, tmp_path / "f.edge")["identical"]


def test_int8_by_name_over_the_budget_is_exit_3_with_the_best_points(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as problem:
        made(files, tmp_path / "n.edge", max_drop="0", precision="int8")
    assert problem.value.exit_code == 3
    assert "layers in float" in problem.value.why and "--exclude" in problem.value.fix
    assert not (tmp_path / "n.edge").exists()


def test_too_few_samples_for_a_confidence_is_exit_3_with_the_number(files: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="too few samples") as problem:
        made(files, tmp_path / "c.edge", confidence=0.95)
    assert "evaluation samples" in problem.value.fix


def test_without_a_search_all_samples_confirm_a_confidence(files: Path, tmp_path: Path) -> None:
    compiled = made(files, tmp_path / "d.edge", effort="default", confidence=0.6, max_drop="20%")
    assert "on the 60 samples" in compiled.decisions[0].why and "0.6 confidence" in compiled.decisions[0].why


def test_a_confidence_without_evaluation_is_a_usage_error(files: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--confidence"):
        made(files, tmp_path / "u.edge", effort="default", confidence=0.9, eval=None)


def test_edgec_quantize_searches_by_likeness(files: Path, tmp_path: Path) -> None:
    output = tmp_path / "q.onnx"
    asked = ["quantize", str(files / "model.onnx"), "--calib", str(files / "calib.npz"), "-o", str(output), "--json"]
    flags = ["--effort", "search", "--max-drop", "20%", "--executor", "local:1", "--arch", "aarch64"]
    done = CliRunner().invoke(group, [*asked, *flags])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert output.stat().st_size == answer["bytes"]
    assert answer["search"]["int8"]["metric"] in ("agreement", "closeness", "direction")


@pytest.mark.parametrize(
    "flags", [["--executor", "local:2"], ["--max-drop", "1%"]], ids=lambda flags: flags[0].lstrip("-")
)
def test_flags_of_a_search_without_one_are_refused(files: Path, tmp_path: Path, flags: list[str]) -> None:
    asked = ["quantize", str(files / "model.onnx"), "--calib", str(files / "calib.npz"), "-o", str(tmp_path / "q.onnx")]
    done = CliRunner().invoke(group, [*asked, *flags])
    assert isinstance(done.exception, UsageError) and "ignored" in str(done.exception)


@pytest.mark.parametrize("confidence", [0.2, 1.0])
def test_a_confidence_that_is_none_is_refused(files: Path, tmp_path: Path, confidence: float) -> None:
    with pytest.raises(UsageError, match="no confidence"):
        made(files, tmp_path / "u.edge", confidence=confidence)


@pytest.mark.parametrize("search", [None, {}, {"int8": 3}, {"int8": {}}, {"int8": {"floats": [1]}}], ids=str)
def test_a_recipe_that_does_not_say_what_was_found_is_refused(search: Any) -> None:
    from edgec.bundle.recipe import Recipe
    from edgec.errors import BadInputError
    from edgec.request import Request
    from edgec.stages import replay

    recipe = Recipe(Request(("rpi4",), effort="search"), {"sha256": ""}, measured={"search": search})
    with pytest.raises(BadInputError, match="recipe"):
        replay.searched(recipe, "int8")
    known = Recipe(recipe.request, recipe.source, measured={"search": {"int8": {"floats": None}}})
    assert replay.searched(known, "int8") == {"floats": None}
