"""The TVM payload on emulated cores: answers, instructions, and that a Cortex-A76's payload runs on an older core."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import arm_files, zoo
from edgec_targets import registry
from edgec_toolchains import aarch64

pytestmark = pytest.mark.skipif(
    find_spec("tvm") is None or find_spec("ziglang") is None, reason="apache-tvm, ziglang: the extra tvm"
)
RUNTIME = Path(__file__).parents[2] / "runtime"
ENTRY = {"id": "p", "engine": "tvm", "engine_version": ">=1,<2", "files": {"model": "m"}}
BARS = {"dscnn_kws": 0.5, "resnet8_cifar10": 0.75}
"""Instructions over ONNX Runtime's in float32 on a Cortex-A53 (issue 4)."""


@pytest.fixture(scope="session", params=BARS)
def case(request, tmp_path_factory):
    """(name, ONNX file, payload for a Cortex-A53 with computed tiles, inputs)."""
    from edgec import frontends, passes
    from edgec_targets.emitters.tvm import Tvm

    if not (zoo.ZOO / request.param / "model.onnx").is_file():
        pytest.skip(f"no zoo at {zoo.ZOO} (set EDGEC_ZOO)")
    folder = tmp_path_factory.mktemp(request.param)
    model = frontends.load(zoo.folder(request.param) / "model.onnx").model
    passes.run(model)
    (folder / "model.onnx").write_bytes(frontends.save_bytes(model))
    for board in ("rpi-zero2w", "rpi5"):
        described = registry.board(board)
        described = dataclasses.replace(described, engines={**described.engines, "tvm": ">=1,<2"})
        built = Tvm(search="computed").emit(model, described, precision="float32")
        (folder / f"{board}.so").write_bytes(built.files["model"][1])
    return request.param, folder, tuple(arm_files.single(request.param, 4))


def inference(core, path, feeds, **more):
    return aarch64.infer(core, path, feeds, engine="edgec", entry=ENTRY, paths=[RUNTIME], wheels=(), **more)


def test_instructions_stay_below_the_bar(core, case):
    name, folder, feeds = case
    ours = inference(core("cortex-a53"), folder / "rpi-zero2w.so", feeds[:1] * 3)
    theirs = aarch64.infer(core("cortex-a53"), folder / "model.onnx", feeds[:1] * 3, engine="onnxruntime")
    assert ours.call.instructions <= BARS[name] * theirs.call.instructions
    assert ours.load.instructions <= 17e6, "importing and loading, over bare Python"


def test_answers_are_onnx_runtimes_on_one_thread_and_on_four(core, case):
    import onnxruntime as ort

    _, folder, feeds = case
    session = ort.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for threads in (1, 4):
        ran = inference(core("cortex-a53"), folder / "rpi-zero2w.so", feeds, threads=threads)
        for answer, feed in zip(ran.answers, feeds, strict=True):
            for name, wanted in zip(names, session.run(None, feed), strict=True):
                signal, noise = np.sum(wanted.astype(float) ** 2), np.sum((wanted - answer[name]).astype(float) ** 2)
                assert noise == 0 or 10 * np.log10(signal / noise) >= 100


def test_a_newer_cores_payload_needs_nothing_that_an_older_one_lacks(core, case):
    _, folder, feeds = case
    ran = [inference(core(name), folder / "rpi5.so", feeds[:1]) for name in ("cortex-a53", "cortex-a76")]
    (first,), (second,) = (list(r.answers[0].values()) for r in ran)
    assert np.array_equal(first, second)
    assert ran[0].call.dot == ran[0].call.sve == 0 and ran[0].call.fmla > 0
