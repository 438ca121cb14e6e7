"""`edgec bench --emulate`, and models on emulated cores beside this machine."""

from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgec.cli import main
from edgec_toolchains import aarch64


def quantized_product(seed=0):
    """A MatMul of uint8 by int8 (QDQ), 64 × 64, and its input: what every core has an int8 kernel for."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(-127, 128, (64, 64)).astype(np.int8)
    names = {"s": np.float32(0.02), "z": np.uint8(128), "w": weights, "ws": np.full(64, 0.01, np.float32),
             "wz": np.zeros(64, np.int8), "ys": np.float32(0.1), "yz": np.uint8(120)}  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["xd", "wd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "ys", "yz"], ["mq"]),
        helper.make_node("DequantizeLinear", ["mq", "ys", "yz"], ["y"]),
    ]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 64]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [numpy_helper.from_array(v, n) for n, v in names.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), rng.normal(size=(8, 64)).astype(np.float32)


@pytest.fixture
def edgec(capsys):
    """edgec(arguments) -> (exit code, standard output)"""

    def call(*arguments):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            return end.code, capsys.readouterr().out
        return 0, capsys.readouterr().out

    return call


@pytest.fixture
def files(tmp_path):
    model, x = quantized_product()
    (tmp_path / "m.onnx").write_bytes(model)
    np.savez(tmp_path / "x.npz", x=x)
    return tmp_path


def test_each_core_runs_its_own_kernel(core, files, edgec):
    shown = {}
    for name in ("cortex-a53", "cortex-a76", "i8mm"):
        core(name)
        code, said = edgec("bench", files / "m.onnx", "--input", files / "x.npz", "--emulate", name, "--json")
        assert code == 0, said
        (shown[name],) = json.loads(said)["candidates"]
    calls = {name: candidate["call"] for name, candidate in shown.items()}
    assert calls["cortex-a53"]["smlal"] > 0 == calls["cortex-a53"]["dot"] == calls["cortex-a53"]["mmla"]
    assert calls["cortex-a76"]["dot"] > 0 == calls["cortex-a76"]["mmla"]
    assert calls["i8mm"]["mmla"] > 0
    assert "int8 dot products" in shown["cortex-a76"]["kernels"]
    assert "int8 matrix products" in shown["i8mm"]["kernels"]


def test_integers_are_the_same_on_every_core_and_here(core, files):
    import onnxruntime

    x = np.load(files / "x.npz")["x"]
    here = onnxruntime.InferenceSession(files / "m.onnx", providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    for name in aarch64.CORES:
        found = aarch64.infer(core(name), files / "m.onnx", [{"x": x}] * 2, engine="onnxruntime")
        for answer in found.answers:
            assert answer["y"].tobytes() == here.tobytes(), name


def test_instructions_repeat(a76, files):
    x = np.load(files / "x.npz")["x"]
    runs = [aarch64.infer(a76, files / "m.onnx", [{"x": x}] * 5, engine="onnxruntime") for _ in range(2)]
    first, second = (run.call.instructions for run in runs)
    assert abs(first - second) <= 0.005 * first
    assert runs[0].load.instructions > 1e8  # importing numpy and onnxruntime: it is counted apart


@pytest.mark.parametrize("arguments, code", [
    (["--emulate", "cortex-m4"], 10), (["--emulate", "cortex-a76", "--threads", "4"], 2),
    (["--emulate", "cortex-a76", "--against", "ort"], 2),
])  # fmt: skip
def test_errors_on_the_command_line(files, edgec, arguments, code):
    assert edgec("bench", files / "m.onnx", *arguments)[0] == code


def test_an_onnx_file_needs_an_input(core, files, edgec):
    core("cortex-a76")
    assert edgec("bench", files / "m.onnx", "--emulate", "cortex-a76")[0] == 2
