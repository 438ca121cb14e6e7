"""The board's other kinds: ONNX Runtime and a model of the zoo on it; the cores of older and newer boards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgec.devices import virtual
from edgec_toolchains.boards import virtual as boards
from tests.board.conftest import NOW, World, shell
from tests.command import edgec

pytestmark = pytest.mark.timeout(900)


def test_onnxruntime_runs_a_real_model_with_its_golden_answers(
    here: World, zoo: Callable[[str], Path], tmp_path: Path
) -> None:
    case = zoo("resnet8_cifar10")
    virtual.start("ort", cpu="neoverse-n1", now=NOW)
    try:
        done = edgec("devices", "setup", "ort", "--engine", "onnxruntime")
        assert done.code == 0, done.err
        bundle = tmp_path / "resnet8.edge"
        made = edgec("compile", case / "model.onnx", "-t", "ort", "--engine", "onnxruntime", "-o", bundle)
        assert made.code == 0, made.err
        flashed = edgec("flash", bundle, "--on", "ort", "--json")
        assert flashed.code == 0, flashed.err
        (payload,) = flashed.json["health"]["payloads"]
        assert payload["payload"] == "onnxruntime-float32-ort" and payload["sqnr_db"] > 60
        with np.load(case / "calib.npz") as data:
            np.savez(tmp_path / "x.npz", input_1=data["images"][:1].astype(np.float32))
        answers = []
        for place, file in (((), "here.npz"), (("--on", "ort"), "there.npz")):
            ran = edgec("run", bundle, *place, "--input", tmp_path / "x.npz", "-o", tmp_path / file)
            assert ran.code == 0, ran.err
            answers.append(np.load(tmp_path / file)["Identity"])
        np.testing.assert_allclose(answers[1], answers[0], atol=1e-5)
        assert (
            shell("ort", "ls ~/.local/share/edgec/runtime/current/edgec_runtime/lib | grep -c onnxruntime").strip()
            == "1"
        )
    finally:
        virtual.stop("ort", power_cut=True)


@pytest.mark.parametrize(
    ("cpu", "name", "dot"), [("cortex-a53", "Cortex-A53", False), ("neoverse-n1", "Neoverse-N1", True)]
)
def test_each_core_says_what_it_is(here: World, cpu: str, name: str, dot: bool) -> None:
    started = virtual.start(cpu, cpu=cpu, now=NOW)
    try:
        assert started.probe.cpu == name
        assert ("asimddp" in started.probe.isa) is dot
        assert started.probe.python is not None and started.probe.python.missing == ()
        assert f"emulated ({boards.CPUS[cpu]})" in started.description.read_text()
    finally:
        virtual.stop(cpu, power_cut=True)
