"""The slim engines on emulated cores: what they cost there, and int8 answers that are the same on every core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import arm, arm_files, zoo
from edgec_toolchains import aarch64

INPUTS = 5  # of each model; benchmarks/arm.py takes thirty


@pytest.fixture(scope="session")
def app(core, tmp_path_factory):
    """An app of y = relu(x) with a LiteRT payload, installed on the emulated machine; its folder."""
    folder = tmp_path_factory.mktemp("app")
    tflite, _ = arm_files.tiny(folder)
    edge = arm_files.bundle(tflite, folder, "tiny", arm.TENSORS)
    runtime = arm.copied(folder)
    install = ["-m", "edgec_runtime", "install", str(edge)]
    core("cortex-a76").python(install, wheels=["ai-edge-litert"], paths=[runtime], env=environment(folder))
    return folder


def environment(folder: Path) -> dict[str, str]:
    return {"EDGEC_ROOT": str(folder / "root")}


def guest(core, folder, *arguments, wheels=("ai-edge-litert",)):
    """The second run of benchmarks/arm_guest.py: the first writes the bytecode."""
    for _ in range(2):
        ran = core.python([str(arm.GUEST), *arguments], wheels=wheels, paths=[folder / "site"], env=environment(folder))
    return ran


def test_an_installed_app_starts_within_its_budget(a76, app):
    ran = guest(a76, app, "installed", "tiny")
    assert ran.region(2).instructions <= 30e6
    assert int(ran.stdout) <= 12e6


def test_a_call_stays_within_its_budget(a76, app):
    ran = guest(a76, app, "calls", "views", "tiny")
    assert (ran.region(3).instructions - ran.region(7).instructions) / 100 <= 24_000


def test_nothing_of_numpy_json_zipfile_or_hashlib_is_loaded(a76, app):
    program = """
import sys
from array import array
import edgec_runtime as rt
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
with rt.load(app="tiny") as model:
    heavy = {"numpy", "json", "zipfile", "hashlib", "typing", "ctypes"}
    print(model.run({"x": x})["y"].tolist(), heavy & set(sys.modules))
"""
    ran = a76.python(["-c", program], wheels=["ai-edge-litert"], paths=[app / "site"], env=environment(app))
    assert ran.stdout == "[[1.0, 0.0, 3.0, 0.0]] set()\n"


def test_a_wrong_library_does_no_harm_on_arm(a76, app, tmp_path):
    """A file that is no aarch64 library: the load ends with one clear error."""
    (tmp_path / "libLiteRt.so").write_bytes(b"\x7fELF no library")
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0")
    program = "import edgec_runtime as rt\ntry: rt.load(app='tiny')\nexcept Exception as error: print(error)"
    env = {**environment(app), "EDGEC_LITERT_LIBRARY": str(tmp_path / "libLiteRt.so")}
    ran = a76.python(["-c", program], paths=[app / "site"], env=env)
    assert "error[E401]" in ran.stdout and "LiteRT refuses the model" in ran.stdout


@pytest.fixture(scope="session", params=["dscnn_kws", "resnet8_cifar10"])
def case(request, tmp_path_factory):
    if not (zoo.ZOO / request.param / "model.onnx").is_file():
        pytest.skip(f"no zoo at {zoo.ZOO} (set EDGEC_ZOO)")
    return arm_files.case(request.param, tmp_path_factory.mktemp(request.param), INPUTS)


@pytest.mark.parametrize("engine", ["litert", "onnxruntime"])
def test_int8_answers_are_the_same_on_every_core(core, case, engine):
    path = case.files["int8", engine]
    found = {name: arm.inference(core(name), path, case.feeds, engine, "edgec") for name in arm.CORES}
    assert len({arm.digest(ran.answers) for ran in found.values()}) == 1
    assert found["cortex-a76"].call.dot > 0 and found["i8mm"].call.mmla > 0 and found["cortex-a53"].call.smlal > 0
    # Beside this machine only what is computed in floating point may differ, by rounding: here a softmax.
    here = arm.on_host(path, case.feeds, engine)
    assert arm.apart(here, found["cortex-a76"].answers) < 1e-6
    assert [np.argmax(next(iter(answer.values()))) for answer in here] == [
        np.argmax(next(iter(answer.values()))) for answer in found["cortex-a76"].answers
    ]


def test_the_library_called_directly_counts_like_the_package(a76, case):
    path = case.files["int8", "litert"]
    package = arm.inference(a76, path, case.feeds[:1] * 3, "litert", "package").call.instructions
    direct = arm.inference(a76, path, case.feeds[:1] * 3, "litert", "edgec").call.instructions
    assert direct <= 1.02 * package


def test_float_models_need_no_numpy_either(a76, app, tmp_path):
    _, onnx = arm_files.tiny(tmp_path)
    x = np.array([[1, -2, 3, -4]], np.float32)
    entry = {"id": "p", "engine": "onnxruntime", "engine_version": ">=1.18", "files": {"model": "m"}}
    ran = aarch64.infer(
        a76, onnx, [{"x": x}], engine="edgec", entry=entry, paths=[app / "site"], wheels=["onnxruntime"]
    )
    assert ran.answers[0]["y"].tolist() == [[1, 0, 3, 0]]
