"""The TVM emitter: one library that needs nothing but libc, the same each time; what it can't do is refused by name."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from edgec_runtime import engines
from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_runtime.payload import StoredPayload
from edgec_targets.emitters.tvm import EMITTER, Tvm, child, choices
from tests.targets.tvm_models import board, convnet, model, random

needed = pytest.mark.skipif(
    find_spec("tvm") is None or find_spec("ziglang") is None, reason="apache-tvm, ziglang: the extra tvm"
)


@pytest.fixture(scope="module")
def built():
    """A payload for this machine, whose tiles are computed."""
    return Tvm(search="computed").emit(convnet(), board(), precision="float32")


@needed
def test_the_library_runs_by_the_runtimes_adapter_in_onnx_order(built, tmp_path):
    import onnxruntime as ort

    (tmp_path / "m.so").write_bytes(built.files["model"][1])
    adapter = engines.find("tvm")
    loaded = adapter.load(StoredPayload({"files": {"model": "m"}}, {"model": str(tmp_path / "m.so")}), {"threads": 2})
    session = ort.InferenceSession(ir.to_proto(convnet()).SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(5):
        x = random(1, 3, 12, 10, seed=seed)
        (found,), (wanted,) = loaded.run(["class"], {"image": x}), session.run(None, {"image": x})
        assert np.abs(found - wanted).max() < 1e-6 and found.shape == wanted.shape
    loaded.close()


@needed
def test_what_a_payload_says_of_itself(built):
    assert built.engine == "tvm" and built.native_code and not built.portable and built.numbers == "float32"
    assert built.options == {} and built.memory and set(built.isa) <= set(board().isa)
    assert EMITTER.fixed_sizes and EMITTER.version and built.engine_version == ">=1,<2"
    record = json.loads(built.files["tiles"][1])
    assert record["chosen_by"] == "computed" and record["unscheduled"] == [] and len(record["tiles"]) == 4


@needed
def test_two_emissions_are_the_same_bytes_and_hold_no_paths(built):
    again = Tvm(search="computed").emit(convnet(), board(), precision="float32")
    assert again.files == built.files
    library = built.files["model"][1]
    for trace in (b"/tmp", b"/work", b"/home", b"edgec-tvm-", b".c\0"):
        assert trace not in library


@needed
def test_choices_of_tiles_are_recorded_and_repeated():
    # Only measuring picks this one, so that a compile which repeats it must have read the record.
    first = Tvm(search="computed").emit(convnet(16), board(), precision="float32")
    given = choices(first.files["tiles"][1])
    key = next(key for key in given if key.startswith("d"))
    given[key] = "1x1x" + given[key].partition("/")[0].rpartition("x")[2] + "/1"
    other = Tvm(tiles=given).emit(convnet(16), board(), precision="float32")
    record = json.loads(other.files["tiles"][1])
    assert record["tiles"] == given and record["chosen_by"] == "given"
    assert other.files["model"] != first.files["model"]


@needed
def test_an_arm_library_is_linked_for_the_boards_glibc(tmp_path):
    made = Tvm(search="computed").emit(convnet(), board("rpi-zero2w"), precision="float32")
    library = made.files["model"][1]
    assert library[:4] == b"\x7fELF" and int.from_bytes(library[18:20], "little") == 183
    assert made.isa == ("asimd",) and made.options == {"threads": 4}
    needs = {word for word in library.split(b"\0") if word.startswith((b"lib", b"ld-")) and b".so" in word}
    assert needs <= {b"libc.so.6", b"libm.so.6", b"libpthread.so.0", b"ld-linux-aarch64.so.1", b"libdl.so.2"}
    versions = {w for w in library.split(b"\0") if w.startswith(b"GLIBC_2.") and w[8:].split(b".")[0].isdigit()}
    assert versions and max(int(w.split(b".")[1]) for w in versions) <= 36


@pytest.mark.parametrize("precision", ["int8", "float16", "int8-dynamic"])
def test_other_precisions_are_refused(precision):
    with pytest.raises(UnsupportedError, match=f"no tvm payload in {precision}"):
        EMITTER.emit(convnet(), board(), precision=precision)


@needed
def test_an_operator_that_tvm_does_not_know_is_named():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("StringNormalizer", ["a"], ["y"], name="odd one")]
    with pytest.raises(UnsupportedError, match="node odd one") as caught:
        EMITTER.emit(model(nodes, {"x": [4]}, ["y"], {}), board(), precision="float32")
    assert caught.value.exit_code == 4 and caught.value.code == "E432" and "importer" in caught.value.why
    (problem,) = EMITTER.problems(model(nodes, {"x": [4]}, ["y"], {}), board())
    assert (problem.node, problem.operator) == ("odd one", "StringNormalizer")


@needed
def test_a_shape_that_depends_on_values_is_refused():
    nodes = [helper.make_node("NonZero", ["x"], ["a"], name="which"), helper.make_node("Cast", ["a"], ["y"], to=1)]
    with pytest.raises(UnsupportedError, match="can't be compiled"):
        EMITTER.emit(model(nodes, {"x": [4]}, ["y"], {}), board(), precision="float32")


def test_a_free_size_is_refused_with_the_inputs_name():
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    with pytest.raises(UnsupportedError, match="input 'x'") as caught:
        EMITTER.emit(model(nodes, {"x": [1, "rows"]}, ["y"], {}), board(), precision="float32")
    assert "--shape x=" in caught.value.fix


def test_a_board_without_the_engine_is_refused():
    import dataclasses

    other = dataclasses.replace(board(), engines={"onnxruntime": ">=1.18"})
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(convnet(), other, precision="float32")
    assert "[engines]" in caught.value.fix


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setattr(child, "find_spec", lambda name: None if name == "tvm" else object())
    with pytest.raises(MissingError, match="compiler isn't installed") as caught:
        EMITTER.emit(convnet(), board(), precision="float32")
    assert "edgec[tvm]" in caught.value.fix and caught.value.exit_code == 10


@pytest.mark.parametrize(("script", "words"), [
    ("kill -SEGV $$", "ends with status -11"), ("exit 0", "ends with status 0"), ("exec sleep 20", "more than 1 sec"),
])  # fmt: skip
def test_a_compiler_that_crashes_or_hangs_is_a_refusal(monkeypatch, tmp_path, script, words):
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(child, "find_spec", lambda name: object())
    monkeypatch.setattr(sys, "executable", str(fake))
    monkeypatch.setattr(child, "SECONDS", 1)
    with pytest.raises(UnsupportedError) as caught:
        EMITTER.emit(convnet(), board(), precision="float32")
    assert words in caught.value.why and "onnxruntime" in caught.value.fix


@needed
def test_wrong_answers_are_never_shipped(tmp_path):
    """A kernel whose answers differ from ONNX Runtime's is found before anything is linked."""
    program = (
        "import sys, numpy\n"
        "from edgec_targets.emitters.tvm import proof\n"
        "wanted = numpy.linspace(-1, 1, 100, dtype='float32')\n"
        "assert proof.apart(wanted, wanted) is None\n"
        "assert proof.apart(wanted, wanted * numpy.float32(1.0000001)) is None\n"
        "assert 'dB' in proof.apart(wanted, wanted + numpy.float32(0.01))\n"
        "assert 'shape' in proof.apart(wanted, wanted[:50])\n"
        "broken = wanted.copy(); broken[3] = numpy.nan\n"
        "assert 'no numbers' in proof.apart(wanted, broken)\n"
        "assert proof.apart(numpy.arange(9), numpy.arange(9)) is None\n"
        "assert 'differ' in proof.apart(numpy.arange(9), numpy.arange(9)[::-1])\n"
    )
    import os

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
