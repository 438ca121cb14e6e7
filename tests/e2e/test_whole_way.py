"""The user's way, command by command, on real models: compile → inspect → verify → run → diff → rebuild."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import command
from tests.command import Said

pytestmark = pytest.mark.usefixtures("quiet")
CASES = ["dscnn_kws", "resnet8_cifar10", "ppocr_cls", "silero_vad", "ultraface", "efficientnet_lite0", "minilm_sts"]
LIMITS = {"efficientnet_lite0": 12, "minilm_sts": 12, "ultraface": 8, "silero_vad": 3}


def edgec(*arguments: object, expect: int = 0) -> Any:
    """The JSON object that a command printed."""
    return answer(command.edgec(*arguments, "--json"), expect, arguments)


def shell(*arguments: object, expect: int = 0) -> Any:
    """The same in a process of its own, as a user runs it."""
    line = [sys.executable, "-m", "edgec", *map(str, arguments), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, env=os.environ, timeout=240)
    return answer(Said(done.returncode, done.stdout, done.stderr), expect, arguments)


def answer(said: Said, expect: int, arguments: tuple[object, ...]) -> Any:
    assert said.code == expect, f"edgec {' '.join(map(str, arguments))}\n{said.out}\n{said.err}"
    assert "Traceback" not in said.err
    return said.json


def case_module(folder: Path) -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"zoo_{folder.name}", folder / "eval.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", CASES)
def test_every_zoo_case_scores_through_the_runtime_as_through_onnxruntime(
    zoo: Callable[[str], Path], name: str, precision: str, tmp_path: Path
) -> None:
    """Compiled for this machine and for an ARM board; the same payload gives the same evaluation both ways."""
    import onnxruntime

    import edgec_runtime as rt
    import edgec_runtime.bundle

    calm = onnxruntime.SessionOptions()
    calm.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would take a core from the other tests
    folder = zoo(name)
    # A dozen samples calibrate here: what is tested is the way, not the accuracy (benchmarks/ has that).
    (tmp_path / "few.py").write_text(
        "import importlib.util, itertools\n"
        f"spec = importlib.util.spec_from_file_location('case', {str(folder / 'eval.py')!r})\n"
        "case = importlib.util.module_from_spec(spec); spec.loader.exec_module(case)\n"
        "def feeds():\n    return itertools.islice(case.feeds('calib'), 8)\n"
    )
    bundle = tmp_path / "model.edge"
    made = edgec(
        "compile",
        folder / "model.onnx",
        "-t",
        "host,rpi4",
        "--engine",
        "onnxruntime",
        "--precision",
        precision,
        "--calib",
        f"{tmp_path / 'few.py'}:feeds",
        *(["--effort", "plain"] if precision == "int8" else []),
        "-o",
        bundle,
    )
    assert {p["board"] for p in made["payloads"]} == {"host", "rpi4"}
    assert {p["precision"] for p in made["payloads"]} == {precision}
    case, limit = case_module(folder), LIMITS.get(name, 40)
    for payload in made["payloads"]:
        with rt.load(bundle, payload=payload["id"]) as model:
            outputs = [o["name"] for o in model.outputs]

            def ours(feed: dict[str, Any], model: Any = model, outputs: list[str] = outputs) -> list[Any]:
                given = model.run(feed)
                return [given[o] for o in outputs]

            through_runtime = case.evaluate(ours, limit)
        with rt.bundle.open(bundle) as opened:
            plain = onnxruntime.InferenceSession(
                opened.read(payload["files"]["model"]), calm, providers=["CPUExecutionProvider"]
            )
        assert [o.name for o in plain.get_outputs()] == outputs
        assert case.evaluate(lambda feed: plain.run(None, feed), limit) == through_runtime  # noqa: B023


@pytest.mark.parametrize("name", ["dscnn_kws", "resnet8_cifar10"])
def test_an_arm_board_gets_a_payload_for_each_engine(zoo: Callable[[str], Path], name: str, tmp_path: Path) -> None:
    """Both answer alike here, the one expected to be faster comes first, and a machine without one takes the other."""
    pytest.importorskip("ai_edge_litert", reason="pip install 'edgec[litert]'")
    import edgec_runtime as rt

    folder = zoo(name)
    bundle = tmp_path / "model.edge"
    case = case_module(folder)
    asked = ["-t", "rpi5", "--precision", "int8", "--calib", f"{folder}/eval.py:feeds", "--effort", "plain"]
    made = edgec("compile", folder / "model.onnx", *asked, "-o", bundle)
    assert [p["engine"] for p in made["payloads"]] == ["litert", "onnxruntime"]
    assert [p["proven_with"]["package"] for p in made["payloads"]] == ["ai-edge-litert", "onnxruntime"]
    feeds = [feed for feed, _ in zip(case.feeds("eval"), range(30), strict=False)]
    answers = {}
    for payload in made["payloads"]:
        with rt.load(bundle, engine=payload["engine"]) as model:
            answers[payload["engine"]] = np.concatenate([next(iter(model.run(feed).values())) for feed in feeds])
    assert np.abs(answers["litert"] - answers["onnxruntime"]).max() < 1e-6, "integers alike; softmax is float"


def test_the_readme_way(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    """A keyword spotter for a Raspberry Pi 5 and this machine, by the commands in the README."""
    folder = zoo("dscnn_kws")
    case = case_module(folder)
    bundle = tmp_path / "kws.edge"
    asked = [
        "-t",
        "rpi5,host",
        "--calib",
        f"{folder}/eval.py:feeds",
        "--eval",
        f"{folder}/eval.py:evaluate",
        "--precision",
        "int8",
        "--max-drop",
        "1pt",
        "--check-passes",
    ]
    shell("check", folder / "model.onnx", "-t", "rpi5,host")
    made = shell("compile", folder / "model.onnx", *asked, "-o", bundle)
    assert made["bytes"] == bundle.stat().st_size

    shown = shell("inspect", bundle, "--ops", "--why")
    assert shown["manifest"]["compiled_for"] == ["rpi5", "host"]
    assert shown["manifest"]["payloads"][0]["accuracy"]["n"] == 400
    assert sum(shown["report"]["operators"]["after"].values()) <= sum(shown["report"]["operators"]["before"].values())

    shell("verify", bundle)
    np.savez(tmp_path / "x.npz", **next(iter(case.feeds("eval"))))
    ran = shell("run", bundle, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    assert ran["payload"].endswith("host"), "the payload compiled for this machine comes first"
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs["dense"].shape == (1, 12)

    again = tmp_path / "again.edge"
    shell("compile", folder / "model.onnx", *asked, "-o", again)
    assert again.read_bytes() == bundle.read_bytes(), "two compiles with the same decisions: the same bytes"
    shell("diff", bundle, again)
    shell(
        "rebuild",
        bundle,
        "--model",
        folder / "model.onnx",
        "--calib",
        f"{folder}/eval.py:feeds",
        "--eval",
        f"{folder}/eval.py:evaluate",
    )
    wrong = shell("rebuild", bundle, "--model", zoo("resnet8_cifar10") / "model.onnx", expect=8)
    assert wrong["error"]["code"] == "E802"

    payloads = made["payloads"]
    overhead = bundle.stat().st_size / (payload_bytes(bundle, payloads) * 1.02 + 64 * 1024 + golden_bytes(bundle))
    assert overhead <= 1.0, "bundle ≤ 1.02 × payloads + golden + 64 KB"


def payload_bytes(bundle: Path, payloads: list[dict[str, Any]]) -> int:
    return sum(m["size"] for m in members(bundle) if m["name"].startswith("payloads/"))


def golden_bytes(bundle: Path) -> int:
    total = sum(m["size"] for m in members(bundle) if m["name"].startswith("golden/"))
    assert total <= max(0.05 * payload_bytes(bundle, []), 256 * 1024)
    return total


def members(bundle: Path) -> list[dict[str, Any]]:
    import edgec_runtime.bundle as reader

    with reader.open(bundle) as opened:
        return list(opened.manifest["members"])


def test_magika_goes_to_int8(pip_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The quantizer of onnxruntime crashes on this model; ours must give a payload or say why not."""
    model = pip_model("magika/models/standard_v3_3/model.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "calib.npz", bytes=rng.integers(0, 257, (8, 2048), dtype=np.int32))
    made = edgec(
        "compile",
        model,
        "-t",
        "host",
        "--calib",
        tmp_path / "calib.npz",
        "--precision",
        "int8",
        "-o",
        tmp_path / "m.edge",
    )
    assert made["payloads"][0]["precision"] == "int8"
