"""The peers' benchmark: environments, kept files, figures, merged results, the table and the bars."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.quantization import bars, engines, environments, figures, files, make, results, table
from benchmarks.quantization.environments import Environment, UnavailableError
from benchmarks.quantization.peers import PEERS, recipes
from benchmarks.quantization.recipe import Case, Recipe
from edgec.data import cosine, sqnr_db

# Environments


@pytest.fixture
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environments, "PEERS", tmp_path / "peers")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "peers").mkdir()
    return tmp_path


def test_a_peer_that_does_not_install_is_a_reason_and_is_not_tried_again(peers: Path) -> None:
    (peers / "broken.txt").write_text(f"--no-index\n{peers}/not-there.whl\n")
    with pytest.raises(UnavailableError, match="does not install"):
        environments.prepare("broken")
    assert not (peers / "peers" / "broken").exists(), "what an installation left is removed"
    (peers / "peers" / "broken.json").write_text(
        json.dumps(json.loads((peers / "peers" / "broken.json").read_text()) | {"failed": "kept"})
    )
    with pytest.raises(UnavailableError, match="kept"):
        environments.prepare("broken")


def test_an_environment_is_made_once_and_again_when_its_requirements_change(
    peers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def install(folder: Path, arguments: list[str]) -> None:
        made.append(Path(arguments[-1]).read_text())
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").symlink_to(sys.executable)
        (folder / "big").write_bytes(bytes(3_000_000))

    monkeypatch.setattr(environments, "_install", install)
    (peers / "tool.txt").write_text("tool==1")
    first = environments.prepare("tool")
    assert first.megabytes == 3 and "numpy" in first.packages
    assert environments.prepare("tool") == first and made == ["tool==1"]
    (peers / "tool.txt").write_text("tool==2")
    environments.prepare("tool")
    assert made == ["tool==1", "tool==2"]
    environments.prepare("tool", again=True)
    assert len(made) == 3


@pytest.mark.parametrize(("limit", "value", "reason"), [("SECONDS", -1, "minutes"), ("MEGABYTES", -1, "outgrows")])
def test_an_installation_that_takes_too_much_is_stopped(
    peers: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    folder = peers / "slow"
    monkeypatch.setattr(environments.subprocess, "run", lambda *a, **k: (folder / "bin").mkdir(parents=True))
    popen = environments.subprocess.Popen
    monkeypatch.setattr(
        environments.subprocess, "Popen", lambda command, **how: popen([sys.executable, "-c", _SLEEPS], **how)
    )
    monkeypatch.setattr(environments.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(environments, limit, value)
    with pytest.raises(UnavailableError, match=reason):
        environments._install(folder, [])


_SLEEPS = "import time; time.sleep(60)"


def test_every_peer_has_requirements_with_pinned_versions_and_recipes() -> None:
    folder = Path(environments.__file__).parent / "environments"
    for peer in PEERS:
        names = [(case, r.name) for r in recipes(peer) for case in r.cases]
        assert names and len(names) == len(set(names)), f"{peer}: a case's rows have names of their own"
        if peer != "edgec":
            lines = [x for x in (folder / f"{peer}.txt").read_text().splitlines() if not x.startswith("#")]
            assert lines and all("==" in line for line in lines)


# Files


def _write(case: Case, out: Path, *, text: str = "model") -> None:
    out.write_text(text)


def _other(case: Case, out: Path, *, text: str = "model") -> None:
    out.write_text(text + "!")


def test_a_key_holds_all_that_a_file_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("r", _write)

    def key(
        recipe: Recipe = recipe, peer: str = "nncf", packages: dict[str, str] | None = None, data: str = "d"
    ) -> str:
        return files.key_of(recipe, peer, packages or {"nncf": "1"}, data)

    assert key() == key()
    others = [
        key(recipe=Recipe("r", _other)),
        key(recipe=Recipe("r", _write, {"text": "x"})),
        key(packages={"nncf": "2"}),
        key(data="e"),
    ]
    assert len({key(), *others}) == 5
    ours = key(peer="edgec")
    monkeypatch.setattr(files, "sources", lambda: "changed")
    assert key(peer="edgec") != ours and key() == key()


def test_a_tool_that_writes_to_its_model_reaches_a_copy_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoils(case: Case, out: Path) -> None:
        Path(case.model).write_text("spoilt")
        out.write_text(str([feed["x"] for feed in case.feeds()]))

    folder = tmp_path / "case"
    folder.mkdir()
    (folder / "eval.py").write_text("def feeds(split): yield {'x': split}")
    for name in ("model.onnx", "calib.npz", "eval.npz"):
        (folder / name).write_text(name)
    before = Case(folder).digest()
    monkeypatch.setattr(make, "recipe_of", lambda peer, name: Recipe(name, spoils))
    make.main("p", "r", str(folder), str(tmp_path / "out"))
    assert Case(folder).digest() == before and (tmp_path / "out").read_text() == "['calib']"
    list(Case(folder).feeds())
    assert sorted(f.name for f in folder.iterdir()) == ["calib.npz", "eval.npz", "eval.py", "model.onnx"]


def test_our_sources_digest_follows_the_quantizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROOT", tmp_path)
    for folder in files.OURS:
        (tmp_path / folder).mkdir(parents=True)
    module = tmp_path / files.OURS[0] / "new.py"
    module.write_text("a = 1")
    before = files.sources()
    module.write_text("a = 2")
    assert files.sources() != before


def test_files_are_kept_and_failures_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "OUT", tmp_path)
    calls: list[str] = []

    def quantize(python: str, peer: str, recipe: Recipe, case: Case, out: Path, key: str) -> files.Made:
        calls.append(recipe.name)
        if recipe.name == "bad":
            return files.Made(key, error="no")
        out.write_text("x")
        return files.Made(key, str(out), 1, 2.0, 3)

    monkeypatch.setattr(files, "_quantize", quantize)
    case, environment = Case(tmp_path / "case"), Environment("p", sys.executable, 1, 1, {"p": "1"})
    for name in ("good", "bad", "good", "bad"):
        made = files.made(case, "nncf", Recipe(name, _write), environment, "d", said=lambda s: None)
        assert bool(made.error) is (name == "bad")
    assert calls == ["good", "bad"]
    (tmp_path / "case" / "nncf-good.onnx").unlink()
    files.made(case, "nncf", Recipe("good", _write), environment, "d", said=lambda s: None)
    files.made(case, "nncf", Recipe("bad", _write), environment, "d", fresh=True, said=lambda s: None)
    assert calls == ["good", "bad", "good", "bad"]


def test_the_reason_is_the_exception_of_a_log() -> None:
    log = "Traceback (most recent call last):\n  File x\nValueError: no such operator\nUserWarning: later noise\n"
    assert files.said_last(log) == "ValueError: no such operator"
    assert files.said_last("\n \n") == "no message"


# Figures


def test_decibels_and_cosines_are_those_of_edgec() -> None:
    random = np.random.default_rng(0)
    expected = [[random.normal(size=(1, 5)).astype(np.float32), np.arange(3)] for _ in range(4)]
    got = [[e[0] + random.normal(size=(1, 5)).astype(np.float32) / 10, e[1]] for e in expected]
    flat = sqnr_db([e[0] for e in expected], [g[0] for g in got])
    assert figures.sqnr_db(expected, got) == round(flat, 2)
    assert figures.cosines(expected, got)[2] == pytest.approx(cosine(expected[2][0], got[2][0]))
    assert figures.sqnr_db(expected, expected) == 200.0
    assert figures.sqnr_db(expected, [[g[0] * np.nan, g[1]] for g in got]) is None


def _classifier(path: Path) -> None:
    """x · 1 → Softmax → Q → DQ → Reshape: probabilities that a quantizer has put to eight bits."""
    nodes = [
        helper.make_node("Mul", ["x", "one"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"]),
        helper.make_node("QuantizeLinear", ["p", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        helper.make_node("Reshape", ["dq", "shape"], ["y"]),
    ]
    constants = {
        "one": np.float32(1),
        "scale": np.float32(1 / 255),
        "zero": np.uint8(0),
        "shape": np.array([4], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def test_what_goes_into_a_final_softmax_is_found_through_q_and_dq(tmp_path: Path) -> None:
    _classifier(tmp_path / "m.onnx")
    x = np.array([[0.0, 20.0, -30.0, 1.0]], np.float32)
    run, seen = engines.opened_before_softmax("onnxruntime", str(tmp_path / "m.onnx"), {"x": x})
    assert run({"x": x})[0].shape == (4,) and run({"x": x})[0].max() == 1
    assert np.array_equal(seen({"x": x})[0], x)


# Results, table, bars


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "FILE", tmp_path / "quantization.json")
    return tmp_path / "quantization.json"


def test_a_run_of_one_peer_replaces_its_rows_alone(store: Path) -> None:
    known = ["a @ onnxruntime", "b @ onnxruntime", "c @ onnxruntime"]
    results.merge("case", {known[1]: {"x": 1}, known[0]: {"x": 2}}, {"nncf": {"megabytes": 1}}, known)
    results.merge("other", {known[0]: {"x": 9}}, {}, known)
    found = results.merge("case", {known[2]: {"x": 3}, known[1]: {"x": 4}}, {"olive": {"failed": "f"}}, known)
    assert json.loads(store.read_text()) == found
    assert [(k, row["x"]) for k, row in found["rows"]["case"].items()] == [(known[0], 2), (known[1], 4), (known[2], 3)]
    assert found["rows"]["other"][known[0]]["x"] == 9
    assert set(found["environments"]) == {"nncf", "olive"}
    (machine,) = found["machines"]
    assert all(row["machine"] == machine and row["date"] for row in found["rows"]["case"].values())
    assert known[0] not in results.merge("case", {}, {}, known[1:])["rows"]["case"], "a recipe that is gone"


def _row(peer: str, recipe: str, **figures: Any) -> dict[str, Any]:
    row = {"peer": peer, "recipe": recipe, "engine": "onnxruntime", "metric": "top1", "date": "2026-01-01"}
    row |= {"value": 0.9, "agreement": 0.99, "sqnr_db": 20.0, "bytes": 5_000_000, "cpu_s": 5.0, "peak_mib": 100}
    return row | {"float_over_it": {"median": 2.0, "p10": 1.9, "p90": 2.1}, "machine": "m"} | figures


def test_the_table_prints_the_best_bold_whoever_it_is_and_says_what_failed() -> None:
    rows = {
        "f": _row("float32", "as given", sqnr_db=200.0),
        "a": _row("edgec", "default", sqnr_db=21.0),
        "b": _row("nncf", "ONNX", sqnr_db=25.0),
        "c": {
            "peer": "olive",
            "recipe": "static",
            "engine": "onnxruntime",
            "error": "Error: a | b",
            "date": "",
            "m": "",
        },
    }
    text = table.model_table(rows)
    assert "**25.0**" in text[4] and "**21.0**" not in text[3] and "**200.0**" not in text[2]
    assert "fails: Error: a / b" in text[5]
    assert len({line.count("|") for line in text}) == 1, "every line has as many cells"


def test_a_bar_is_held_against_both_sides_by_the_same_rule() -> None:
    rows = [
        _row("edgec", "default", sqnr_db=26.0),
        _row("edgec", "slow", sqnr_db=30.0, float_over_it={"median": 0.5, "p10": 0.5, "p90": 0.5}),
        _row("nncf", "ONNX", sqnr_db=19.0),
    ]
    found = {"rows": {"efficientnet_lite0": {str(i): r for i, r in enumerate(rows)}}, "environments": {}}
    line = bars.table(found)[2]
    assert "26.0 dB, 99.00 %, 2.00 ×, 5.0 MB: met (default)" in line
    assert "**19.0 dB**, 99.00 %, 2.00 ×, 5.0 MB: not met (nncf, ONNX)" in line
    rows[2] |= {"cpu_s": 1.0}
    behind = table.behind({str(i): r for i, r in enumerate(rows)})
    assert behind == ["CPU s in ORT: 1 (nncf, ONNX), ours 5"]
