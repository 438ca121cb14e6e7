"""The board's own measurement decides between payloads, is remembered, and costs a load nothing else."""

from __future__ import annotations

import json

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime import cpu
from edgec_runtime.cli.main import main
from edgec_runtime.errors import MissingError, RolledBackError
from edgec_runtime.slots import preference, state
from edgec_runtime.slots.choose import choose
from edgec_runtime.slots.install import install

SLOW, QUICK = "onnxruntime-int8-host", "onnxruntime-float32-host"


def heavy(op_model_size=700, layers=6):
    """y = x + x + 0 · (a long way round): thousands of times the work of an Add."""
    from onnx import helper

    n = op_model_size
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("ConstantOfShape", ["shape"], ["o"]),
        helper.make_node("Add", ["o", "s"], ["m0"]),
        *(helper.make_node("MatMul", [f"m{i}", "o"], [f"m{i + 1}"]) for i in range(layers)),
        helper.make_node("ReduceMax", [f"m{layers}"], ["z"], keepdims=0),
        helper.make_node("Mul", ["z", "zero"], ["w"]),
        helper.make_node("Add", ["x", "x"], ["d"]),
        helper.make_node("Add", ["d", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "heavy",
        [helper.make_tensor_value_info("x", 1, (2, 3))],
        [helper.make_tensor_value_info("y", 1, (2, 3))],
        [helper.make_tensor("shape", 7, [2], [n, n]), helper.make_tensor("zero", 1, [], [0.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


@pytest.fixture
def two(model_kit):
    """A bundle whose first payload is much slower than its second."""
    model_kit.files["payloads/onnxruntime/slow.onnx"] = heavy()
    slow = model_kit.payload(id=SLOW, precision="int8", files={"model": "payloads/onnxruntime/slow.onnx"})
    model_kit.manifest["payloads"] = [slow, model_kit.payload()]
    return model_kit


def loaded():
    with rt.load(app="tiny") as model:
        assert np.array_equal(model.run({"x": np.ones((2, 3), np.float32)})["y"], np.full((2, 3), 2.0))
        return model.info["payload"]


def test_the_fastest_is_preferred_from_then_on(two, tmp_path, root):
    install(two.write(tmp_path))
    assert loaded() == SLOW  # the compiler's order
    result = choose("tiny")
    assert result["preferred"] == QUICK and [p["payload"] for p in result["payloads"]] == [QUICK, SLOW]
    assert result["cpu"] == cpu.name() and all(p["median_s"] > 0 for p in result["payloads"])
    assert loaded() == QUICK
    with rt.load(app="tiny", payload=SLOW) as model:  # asked for by name, it still is there
        assert model.info["payload"] == SLOW


def test_it_outlives_an_update_on_the_same_cpu_only(two, tmp_path, root):
    install(two.write(tmp_path), app="tiny")
    choose("tiny")
    two.manifest["app"] = {"name": "tiny", "version": "2.0.0", "sequence": 2}
    install(two.write(tmp_path))
    assert loaded() == QUICK
    folder = root / "apps" / "tiny"
    found = state.read(str(folder), "tiny")
    found.more = preference.lines(found, QUICK, "another CPU")
    (folder / "state").write_bytes(state.encode(found))
    two.manifest["app"] = {"name": "tiny", "version": "3.0.0", "sequence": 3}
    install(two.write(tmp_path))
    assert loaded() == SLOW and preference.of(state.read(str(folder), "tiny")) == ("", "")


def test_a_payload_that_is_gone_is_not_preferred(two, tmp_path, root):
    install(two.write(tmp_path))
    choose("tiny")
    two.manifest["payloads"].pop()
    two.files.pop("payloads/onnxruntime/model.onnx")
    two.manifest["app"] = {"name": "tiny", "version": "2.0.0", "sequence": 2}
    install(two.write(tmp_path))
    assert loaded() == SLOW


def test_one_that_does_not_load_is_named_and_not_preferred(two, tmp_path, root):
    two.files["payloads/onnxruntime/model.onnx"] = b"not a model"
    install(two.write(tmp_path))
    result = choose("tiny")
    assert result["preferred"] == SLOW
    assert result["payloads"][1]["payload"] == QUICK and result["payloads"][1]["why"]
    two.files["payloads/onnxruntime/slow.onnx"] = b"nor is this"
    with pytest.raises(RolledBackError) as caught:
        install(two.write(tmp_path))
    assert caught.value.code == "E701" and SLOW in caught.value.why and QUICK in caught.value.why
    assert choose("tiny")["preferred"] == SLOW  # of the version before
    with pytest.raises(MissingError):
        choose("another")


def test_commands(two, tmp_path, root, capsys):
    path = str(two.write(tmp_path))
    assert main(["install", path, "--choose"]) == 0
    printed = capsys.readouterr().out
    assert f"prefers {QUICK}" in printed and f"{SLOW}: median" in printed
    assert main(["bench", "--app", "tiny", "--choose", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preferred"] == QUICK
    assert main(["bench", path, "--choose"]) == 2
    assert "--app" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, name",
    [
        ("processor\t: 0\nmodel name\t: Intel(R) N100\n", "Intel(R) N100"),
        ("CPU part\t: 0xd08\n\nCPU part\t: 0xd08\n", "Cortex-A72"),
        ("CPU part\t: 0xd05\nCPU part\t: 0xd0b\n", "Cortex-A55 + Cortex-A76"),
        ("CPU part\t: 0xfff\n", "part 0xfff"),
    ],
)
def test_a_cpu_has_a_name(tmp_path, text, name):
    (tmp_path / "cpuinfo").write_text(text)
    assert cpu.name(str(tmp_path / "cpuinfo")) == name
    assert cpu.name(str(tmp_path / "none"))
