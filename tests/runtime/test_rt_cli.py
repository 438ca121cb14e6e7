"""edgec-rt: each command, its JSON, its errors in three lines with their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from edgec_runtime.bundle import tensors
from edgec_runtime.bundle.tensors import Item
from edgec_runtime.cli.main import main

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def edge(model_kit, tmp_path, root):
    np.savez(tmp_path / "x.npz", x=X)
    return str(model_kit.write(tmp_path))


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def failed(result, code, *words):
    assert result[0] == code, result
    lines = result[2].splitlines()
    assert len(lines) == 3 and lines[0].startswith("error[E") and lines[1].startswith("  why: ")
    assert lines[2].startswith("  fix: ")
    for word in words:
        assert word in result[2]
    assert "Traceback" not in result[2]


def test_run(call, edge, tmp_path):
    code, out, err = call("run", edge, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    assert code == 0 and not err and "onnxruntime-float32-host" in out and "float32[2, 3]" in out
    with np.load(tmp_path / "y.npz") as data:
        assert np.array_equal(data["y"], 2 * X)
    code, out, _ = call("run", edge, "--input", tmp_path / "x.npz", "--json")
    found = json.loads(out)
    assert found["outputs"]["y"]["first"] == [0, 2, 4, 6, 8, 10] and found["outputs"]["y"]["shape"] == [2, 3]


def test_install_run_selftest_doctor(call, edge, tmp_path, root, keys):
    code, out, _ = call("install", edge, "--app", "mine")
    assert code == 0 and "slot a" in out and out.splitlines()[-1] == "next: edgec-rt selftest --app mine"
    assert call("run", "--app", "mine", "--input", tmp_path / "x.npz")[0] == 0
    code, out, _ = call("selftest", "--app", "mine", "--json")
    assert code == 0 and json.loads(out)["payloads"][0]["result"] == "loaded"
    code, out, _ = call("doctor", "--json")
    found = json.loads(out)
    assert code == 0 and found["root"] == str(root) and found["trusted_keys"] == [keys(1).id]
    assert found["engines"]["onnxruntime"] and found["apps"] == [{"app": "mine", "active": "a"}]
    assert found["problems"] == [] and found["isa"]
    assert "mine, slot a" in call("doctor")[1]


def test_doctor_names_problems(call, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "empty"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr("edgec_runtime.engines.ncnn.Engine.version", lambda self: None)
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("LITERT", "ONNXRUNTIME"):
        monkeypatch.setenv(f"EDGEC_{name}_LIBRARY", "/nowhere")
    code, out, _ = call("doctor")
    assert code == 0 and "no engine is installed" in out and "no key is trusted" in out


def test_bench(call, edge, tmp_path):
    code, out, _ = call("bench", edge, "--runs", 20, "--json")
    found = json.loads(out)
    assert code == 0 and 0 < found["least_s"] <= found["median_s"] <= found["p99_s"] < found["cold_start_s"]
    assert found["runs"] == 20 and found["engine"].startswith("onnxruntime ")


def test_selftest_exit_6(call, model_kit, tmp_path, root):
    model_kit.files["golden/inputs.bin"] = tensors.encode([Item("0/x", "float32", (2, 3), X.tobytes())])
    model_kit.files["golden/out.bin"] = tensors.encode([Item("0/y", "float32", (2, 3), X.tobytes())])
    model_kit.manifest["golden"] = {**model_kit.manifest["golden"], "kind": "data", "inputs": "golden/inputs.bin"}
    model_kit.manifest["payloads"][0]["golden"] = {"expected": "run", "file": "golden/out.bin", "min_sqnr_db": 30}
    failed(call("selftest", model_kit.write(tmp_path)), 6, "E601", "dB")


def test_exit_codes(call, edge, model_kit, tmp_path, keys):
    x = tmp_path / "x.npz"
    failed(call("run", edge), 2, "--input")
    failed(call("run", edge, "--input", x, "--turbo"), 2, "--turbo")
    failed(call("fly", edge), 2, "fly")
    failed(call("run", "--input", x), 2, "E205")
    failed(call("run", edge, "--app", "a", "--input", x), 2, "E205")
    failed(call("selftest", "--app", "a", "--allow-unsigned"), 2, "E205")
    failed(call("bench", edge, "--runs", "0"), 2, "--runs")
    failed(call("run", tmp_path / "absent.edge", "--input", x), 9, "E901")
    failed(call("run", x, "--input", x), 9, "E901", "not an edgec bundle")
    failed(call("run", edge, "--input", tmp_path / "absent.npz"), 9, "E914")
    failed(call("run", edge, "--input", __file__), 9, "E914")
    failed(call("run", edge, "--input", x, "-o", tmp_path / "no" / "y.npz"), 9, "E915")
    failed(call("run", edge, "--input", x, "--engine", "tvm"), 2, "E204")
    failed(call("run", "--app", "absent", "--input", x), 10, "E1002")
    np.savez(tmp_path / "bad.npz", x=X.astype("float64"))
    failed(call("run", edge, "--input", tmp_path / "bad.npz"), 9, "E911", "float64")
    np.savez(tmp_path / "pickled.npz", x=np.array([{}], dtype=object))
    failed(call("run", edge, "--input", tmp_path / "pickled.npz"), 9, "E914")
    np.save(tmp_path / "single.npy", X)
    failed(call("run", edge, "--input", tmp_path / "single.npy"), 9, "E914", "named arrays")
    model_kit.keys = [keys(5).private]
    stranger = model_kit.write(tmp_path, "stranger.edge")
    failed(call("run", stranger, "--input", x), 5, "E502")
    assert call("run", stranger, "--input", x, "--allow-unsigned")[0] == 0
    failed(call("install", stranger), 5, "E502")
    model_kit.keys = [keys(1).private]
    model_kit.manifest["payloads"][0].update(arch="vax", portable=False)
    failed(call("run", model_kit.write(tmp_path, "vax.edge"), "--input", x), 4, "E401", "vax")


def test_errors_as_json(call, tmp_path):
    code, out, err = call("selftest", tmp_path / "absent.edge", "--json")
    assert code == 9 and json.loads(out)["error"]["code"] == "E901" and json.loads(out)["error"]["exit_code"] == 9
    assert err.startswith("error[E901]")


def test_debug_shows_the_traceback(edge):
    done = subprocess.run(
        [sys.executable, "-m", "edgec_runtime", "selftest", "/absent", "--debug"], capture_output=True, text=True
    )
    assert "Traceback" in done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "edgec_runtime", "selftest", "/absent"], capture_output=True, text=True
    )
    assert done.returncode == 9 and "Traceback" not in done.stderr


def test_help_and_version(capsys):
    for arguments in (["--help"], ["run", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    assert main([]) == 2
    assert "selftest" in capsys.readouterr().out


def test_a_pipe_that_closes_is_no_traceback(edge):
    done = subprocess.run(
        f"{sys.executable} -m edgec_runtime doctor | true", shell=True, capture_output=True, text=True
    )
    assert "Traceback" not in done.stderr
