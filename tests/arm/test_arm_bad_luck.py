"""Bad luck that needs a core of its own: payloads for features that it lacks, a library cut off, a fork."""

from __future__ import annotations

import pytest

from benchmarks import arm, arm_files

DOT = {"id": "dot", "isa": ["asimd", "asimddp"], "board": "rpi5"}
PLAIN = {"id": "plain", "board": "rpi4"}
ENGINE = ("ai-edge-litert",)
RUN = """
import os, sys
from array import array
import edgec_runtime as rt
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
try:
    with rt.load(sys.argv[1], trust=sys.argv[2]) as model:
        print(model.info["payload"], model.run({"x": x})["y"].tolist(), model.info["refused"])
        if len(sys.argv) > 3:
            child = os.fork()
            if child == 0: os._exit(0 if model.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]] else 1)
            print("child", os.waitpid(child, 0)[1], model.run({"x": x})["y"].tolist())
except rt.errors.Error as error:
    print(error.code, error.why)
"""
RUN = RUN.replace("import edgec_runtime as rt", "import edgec_runtime as rt\nimport edgec_runtime.errors")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """app(core, *payloads, more=…): what a load on the core says of a bundle with these payloads of relu(x)."""

    def run(core, *payloads, more=(), env=None):
        folder = tmp_path_factory.mktemp("app")
        tflite, _ = arm_files.tiny(folder)
        edge = arm_files.bundle(tflite, folder, "tiny", arm.TENSORS, payloads)
        arguments = ["-c", RUN, str(edge), str(folder / "root" / "trust"), *more]
        return core.python(arguments, wheels=ENGINE, paths=[arm.RUNTIME], env=env).stdout

    return run


def test_a_payload_for_dot_products_gives_way_on_a_core_without(core, app):
    said = app(core("cortex-a53"), DOT, PLAIN)
    assert said.startswith("plain [[1.0, 0.0, 3.0, 0.0]]") and "this CPU lacks asimddp" in said
    assert app(core("cortex-a76"), DOT, PLAIN).startswith("dot [[1.0, 0.0, 3.0, 0.0]]")


def test_without_another_payload_there_is_one_error_and_no_illegal_instruction(core, app):
    assert app(core("cortex-a72"), DOT) == "E401 dot: this CPU lacks asimddp\n"


def test_a_half_written_library_and_a_fork(a76, app, tmp_path):
    whole = a76.bed.wheel("ai-edge-litert") / "ai_edge_litert" / "libLiteRt.so"
    (tmp_path / whole.name).write_bytes(whole.read_bytes()[:-1])
    (tmp_path / f"{whole.name}.version").write_text("2.3.0")
    said = app(a76, PLAIN, env={"EDGEC_LITERT_LIBRARY": str(tmp_path / whole.name)})
    assert said.startswith("E401") and "it is cut off" in said
    assert app(a76, PLAIN, more=["fork"]).splitlines()[1] == "child 0 [[1.0, 0.0, 3.0, 0.0]]"
