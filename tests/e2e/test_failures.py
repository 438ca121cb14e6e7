"""What goes wrong for people: each its exit code, three lines for a person, and nothing half-written."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests import command
from tests.command import Said

pytestmark = pytest.mark.usefixtures("quiet")  # what an engine's C++ prints would stand among the lines


def edgec(*arguments: object, cwd: Path) -> Said:
    with contextlib.chdir(cwd):
        return command.edgec(*arguments)


def refused(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said.err
    assert "Traceback" not in said.err
    lines = said.err.strip().splitlines()
    assert lines[0].startswith("error["), said.err
    assert len(lines) <= 3, said.err
    for word in words:
        assert word in said.err, said.err


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small convolution."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"], name="relu"),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [weights],
    )  # fmt: skip
    path = tmp_path / "conv.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def calibration(folder: Path, values: np.ndarray, name: str = "x") -> Path:
    np.savez(folder / "calib.npz", **{name: values})
    return folder / "calib.npz"


GOOD = np.random.default_rng(1).standard_normal((6, 3, 8, 8)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (np.where(GOOD > 2, np.nan, GOOD).astype(np.float32), "x"),
        (GOOD[:0], "x"),
        (GOOD[:, :, :4], "x"),
        (GOOD, "wrong"),
        (np.array([{"a": 1}], dtype=object), "x"),
    ],
    ids=["nan", "empty", "wrong shape", "wrong name", "pickled"],
)
def test_bad_calibration_is_exit_9_and_leaves_nothing(
    tmp_path: Path, model: Path, values: np.ndarray, name: str
) -> None:
    data = calibration(tmp_path, values, name)
    refused(edgec("compile", model, "-t", "host", "--calib", data, "-o", "out.edge", cwd=tmp_path), 9)
    assert {p.name for p in tmp_path.iterdir()} <= {"conv.onnx", "calib.npz"}


def test_int8_without_data_is_exit_2(tmp_path: Path, model: Path) -> None:
    refused(edgec("compile", model, "-t", "host", "--precision", "int8", cwd=tmp_path), 2, "--calib")


def test_an_unknown_board_is_exit_10_with_a_near_name(tmp_path: Path, model: Path) -> None:
    refused(edgec("compile", model, "-t", "rpi55", cwd=tmp_path), 10, "rpi5")


def test_a_missed_budget_is_exit_3(tmp_path: Path, model: Path) -> None:
    # A metric that int8 can't keep: closeness to the float answer, which comes first and is remembered.
    (tmp_path / "far.py").write_text(
        "import numpy as np\nfirst = []\n"
        "def evaluate(run):\n"
        "    x = np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32)\n"
        "    y = run({'x': x})[0]\n    first.append(y)\n"
        "    return {'metric': 'closeness', 'value': 1.0 - float(np.abs(y - first[0]).max()), 'n': 1}\n"
    )
    data = ["--calib", calibration(tmp_path, GOOD), "--eval", "far.py:evaluate"]
    budget = ["--precision", "int8", "--max-drop", "0.000001"]
    done = edgec("compile", model, "-t", "host", *data, *budget, "-o", "o.edge", cwd=tmp_path)
    refused(done, 3, "--exclude")
    assert not (tmp_path / "o.edge").exists()


def test_a_broken_model_is_exit_9_and_names_the_node(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("NoSuchThing", ["x"], ["y"], name="the_culprit")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "bad.onnx")
    refused(edgec("compile", "bad.onnx", "-t", "host", cwd=tmp_path), 9, "the_culprit")
    (tmp_path / "text.onnx").write_text("this is no model")
    refused(edgec("compile", "text.onnx", "-t", "host", cwd=tmp_path), 9)
    refused(edgec("compile", "absent.onnx", "-t", "host", cwd=tmp_path), 9)


def small_files_only() -> None:
    """In the child: the kernel refuses writes past 2,000 bytes of a file, as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, model: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgec", "compile", model, "-t", "host", "-o", "out.edge"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ, timeout=120, preexec_fn=small_files_only,
    )  # fmt: skip
    refused(Said(done.returncode, done.stdout, done.stderr), 9)
    assert {p.name for p in tmp_path.iterdir()} == {"conv.onnx"}


def test_a_wrong_input_is_exit_9_and_names_it(tmp_path: Path, model: Path) -> None:
    assert edgec("compile", model, "-t", "host", "-o", "m.edge", cwd=tmp_path).code == 0
    for arrays, words in (
        ({"x": GOOD[:1, :, :4]}, ("x",)),
        ({"x": GOOD[:1].astype(np.int64)}, ("x",)),
        ({"z": GOOD[:1]}, ("z",)),
    ):
        np.savez(tmp_path / "in.npz", **arrays)
        refused(edgec("run", "m.edge", "--input", "in.npz", cwd=tmp_path), 9, *words)


def test_a_flipped_bit_is_exit_5(tmp_path: Path, model: Path) -> None:
    assert edgec("compile", model, "-t", "host", "-o", "m.edge", cwd=tmp_path).code == 0
    data = bytearray((tmp_path / "m.edge").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "m.edge").write_bytes(data)
    refused(edgec("verify", "m.edge", cwd=tmp_path), 5)


def test_a_stranger_s_bundle_is_exit_5_elsewhere(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert edgec("compile", model, "-t", "host", "-o", "m.edge", cwd=tmp_path).code == 0
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "another"))
    refused(edgec("verify", "m.edge", cwd=tmp_path), 5, "stranger")


@pytest.mark.parametrize("flag", [["--max-drop", "1%"], ["--method", "histogram"], ["--exclude", "Conv"]], ids=" ".join)
def test_a_flag_that_would_be_ignored_is_an_error(tmp_path: Path, model: Path, flag: list[str]) -> None:
    refused(edgec("compile", model, "-t", "host", *flag, cwd=tmp_path), 2, "ignored")


def test_an_unknown_flag_is_an_error(tmp_path: Path, model: Path) -> None:
    done = edgec("compile", model, "-t", "host", "--frobnicate", cwd=tmp_path)
    assert done.code == 2 and "frobnicate" in done.err


def test_edgec_toml_holds_the_same_options(tmp_path: Path, model: Path) -> None:
    (tmp_path / "edgec.toml").write_text('[compile]\nmodel = "conv.onnx"\ntarget = ["host"]\noutput = "by-file.edge"\n')
    done = edgec("compile", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.json["file"] == "by-file.edge"
    (tmp_path / "edgec.toml").write_text('[compile]\nmodle = "conv.onnx"\n')
    refused(edgec("compile", "conv.onnx", "-t", "host", cwd=tmp_path), 9, "modle")


def test_diff_of_two_bundles_is_exit_8_on_one_screen(tmp_path: Path, model: Path) -> None:
    for name, board in (("a", "host"), ("b", "rpi4")):
        assert edgec("compile", model, "-t", board, "-o", f"{name}.edge", cwd=tmp_path).code == 0
    assert edgec("diff", "a.edge", "a.edge", cwd=tmp_path).code == 0
    done = edgec("diff", "a.edge", "b.edge", cwd=tmp_path)
    assert done.code == 8, done.err
    assert "rpi4" in done.out
    assert len(done.out.splitlines()) < 60
