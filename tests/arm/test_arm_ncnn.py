"""ncnn's payload on emulated cores: answers are ONNX Runtime's, arithmetic is float32, and no numpy is needed."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgec_targets import registry
from edgec_targets.emitters.ncnn import EMITTER, ENGINE_VERSION
from edgec_targets.emitters.onnxruntime import EMITTER as ONNXRUNTIME
from edgec_toolchains import aarch64
from tests.runtime import ncnn_models

RUNTIME = Path(__file__).parents[2] / "runtime"


def infer(core, files, feeds, **options):
    roles = {role: path.name for role, path in files.items()}
    entry = {"id": "p", "engine": "ncnn", "engine_version": ENGINE_VERSION, "files": roles}
    return aarch64.infer(
        core, files["param"], feeds, engine="edgec", entry=entry, paths=[RUNTIME], files=files, **options
    )


def written(folder, contents):
    files = {role: folder / role for role in contents}
    for role, data in contents.items():
        files[role].write_bytes(data)
    return files


@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a76"])
def test_arithmetic_is_float32_where_the_core_has_half_precision(core, tmp_path, name):
    """2 x + 1 of 1 + 2⁻²⁰: half precision gives 3. The A76 has it (asimdhp), and ncnn takes it if it may."""
    x = np.full((1, 3, 4, 4), 1 + 2**-20, np.float32)
    ran = infer(core(name), written(tmp_path, ncnn_models.image()), [{"x": x}])
    assert np.array_equal(ran.answers[0]["y"], 2 * x + 1)


def test_loading_takes_no_numpy(a76, tmp_path):
    """Its wheel alone is on the guest's path; and what loading takes stays below half of ONNX Runtime's package."""
    files = written(tmp_path, ncnn_models.relu())
    ran = infer(a76, files, [{"x": ncnn_models.X}], wheels=["ncnn"])
    assert ran.answers[0]["y"].tolist() == ncnn_models.RELU
    assert ran.load.instructions < 60e6  # 30 M; the first run of a bed writes bytecode as well


def test_a_module_for_another_machine_does_no_harm(a76, tmp_path):
    """As where an x86 wheel was copied onto the board: the payload is refused with the reason."""
    files = written(tmp_path, ncnn_models.relu())
    (tmp_path / "ncnn").mkdir()
    suffix = "cpython-311-aarch64-linux-gnu.so"
    (tmp_path / "ncnn" / f"ncnn.{suffix}").write_bytes(b"\x7fELF" + bytes(200))
    (tmp_path / "ncnn" / "__init__.py").write_text("from .ncnn import *\n")
    (tmp_path / "ncnn-1.0.20261020.dist-info").mkdir()
    program = f"""
from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload
files = { ({role: str(path) for role, path in files.items()})!r}
try:
    ncnn.Engine().load(StoredPayload({{"files": files}}, files), {{}})
except Exception as error:
    print(error)
"""
    ran = a76.python(["-c", program], paths=[tmp_path, RUNTIME])
    assert "error[E402]: ncnn refuses the model" in ran.stdout and "does not work on this machine" in ran.stdout


@pytest.mark.skipif(find_spec("ncnn") is None, reason="ncnn is not installed (pip install 'edgec[ncnn]')")
def test_resnet8_takes_fewer_instructions_than_in_onnx_runtime(core, zoo, tmp_path):
    """Float32, on a core without half precision or dot products; measured 0.70 (benchmarks/float_payloads_arm.py)."""
    model = ir.load(zoo("resnet8_cifar10") / "model.onnx")
    for value in model.graph.inputs:
        value.shape = ir.Shape([d if isinstance(d, int) else 1 for d in value.shape])
    found = registry.board("rpi5")
    board = replace(found, threads=1, engines={**found.engines, "ncnn": ENGINE_VERSION})
    feeds = [{"input_1": np.random.default_rng(0).random((1, 32, 32, 3), np.float32)}] * 3
    ours = EMITTER.emit(model, board, precision="float32")
    ran = infer(core("cortex-a53"), written(tmp_path, {role: data for role, (_, data) in ours.files.items()}), feeds)
    plain = tmp_path / "model.onnx"
    plain.write_bytes(ONNXRUNTIME.emit(model, board, precision="float32").files["model"][1])
    theirs = aarch64.infer(core("cortex-a53"), plain, feeds, engine="onnxruntime")
    assert np.allclose(ran.answers[0]["Identity"], theirs.answers[0]["Identity"], atol=1e-5)
    assert ran.call.instructions < 0.75 * theirs.call.instructions
