"""The README's way on an arm64 machine: board, setup, compile, flash, run, updates good and bad, back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.board import bundles
from tests.board.conftest import ROOT, World, shell
from tests.command import edgec

FEATURES = ROOT / "examples" / "file_type" / "features.py"

pytestmark = pytest.mark.timeout(900)


def test_tour(here: World, tmp_path: Path, pip_model: object) -> None:
    model = pip_model("magika/models/standard_v3_3/model.onnx")  # type: ignore[operator]
    started = edgec("devices", "virtual", "--json")
    assert started.code == 0, started.err
    assert started.json["made"] and started.json["emulated"]
    assert started.json["probe"]["arch"] == "aarch64" and started.json["probe"]["cpu"] == "Cortex-A72"
    assert edgec("devices", "virtual", "start", "virtual").out.count("on already") == 1

    refused = edgec("run", "--app", "file-type", "--on", "virtual", "--input", _input(tmp_path))
    assert refused.code == 10 and "edgec devices setup virtual" in refused.err  # a bare board

    done = edgec("devices", "setup", "virtual")
    assert done.code == 0, done.err
    assert "next: edgec compile model.onnx -t virtual" in done.out

    first = tmp_path / "file-type.edge"
    made = edgec(
        "compile", model, "-t", "virtual", "--name", "file-type", "-o", first, "--version", "1.0", "--sequence", 1,
        "--calib", f"{FEATURES}:calibration", "--engine", "litert", "--max-drop", "1pt",
        "--eval", f"{FEATURES}:evaluate",
    )  # fmt: skip
    assert made.code == 0, made.err
    flashed = edgec("flash", first, "--on", "virtual", "--json")
    assert flashed.code == 0, flashed.err
    expected = _local(first, tmp_path)
    there = edgec("run", first, "--on", "virtual", "--input", _input(tmp_path), "-o", tmp_path / "there.npz", "--json")
    assert there.code == 0, there.err
    assert there.json["emulated"] and there.json["payload"] == "litert-int8-virtual"
    answers = np.load(tmp_path / "there.npz")["target_label"]
    assert answers.argmax() == expected.argmax()
    np.testing.assert_allclose(answers, expected, atol=0.02)  # int8 kernels of two CPUs

    second = bundles.again(first, tmp_path / "second.edge", version=2)
    assert edgec("flash", second, "--on", "virtual").code == 0
    other = edgec("run", first, "--on", "virtual", "--input", _input(tmp_path))
    assert other.code == 2 and "another version" in other.err
    assert _version() == "2.0"

    back = edgec("rollback", "--on", "virtual", "--app", "file-type")
    assert back.code == 0, back.err
    assert _version() == "1.0"

    bad = bundles.again(first, tmp_path / "bad.edge", version=3, wrong=True)
    failed = edgec("flash", bad, "--on", "virtual")
    assert failed.code == 7 and "rolled" in failed.err, failed.err
    assert _version() == "1.0"
    assert edgec("run", first, "--on", "virtual", "--input", _input(tmp_path)).code == 0

    assert edgec("devices", "virtual", "stop").code == 0  # by its power button
    off = edgec("run", first, "--on", "virtual", "--input", _input(tmp_path))
    assert off.code == 11 and "edgec devices virtual start virtual" in off.err
    assert edgec("devices", "virtual").code == 0
    assert edgec("run", first, "--on", "virtual", "--input", _input(tmp_path)).code == 0
    assert "/home/pi" in shell("virtual", "pwd")
    assert edgec("devices", "virtual", "remove", "--yes").code == 0
    assert edgec("devices", "list", "--json").json["devices"] == []


def _version() -> str:
    (app,) = [
        app for device in edgec("status", "--on", "virtual", "--json").json["devices"] for app in device["apps"]
    ]  # fmt: skip
    return str(app["version"])


def _input(folder: Path) -> Path:
    path = folder / "x.npz"
    if not path.is_file():
        import importlib.util

        spec = importlib.util.spec_from_file_location("features", FEATURES)
        assert spec and spec.loader
        features = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(features)
        np.savez(path, bytes=features.features((ROOT / "Makefile").read_bytes()))
    return path


def _local(bundle: Path, folder: Path) -> np.ndarray[Any, Any]:
    """What this machine's runtime gives for the same input, from the same bundle."""
    import edgec_runtime as rt

    with rt.load(bundle) as model:
        answers: np.ndarray[Any, Any] = model.run(dict(np.load(_input(folder))))["target_label"]
        return answers
