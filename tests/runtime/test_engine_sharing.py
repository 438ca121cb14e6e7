"""Several models in one process, one model in several: threads, memory and files that are shared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgec_runtime.engines import litert_capi, onnxruntime_capi

ORT = pytest.mark.skipif(onnxruntime_capi.library() is None, reason="there is no libonnxruntime.so")
LITERT = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
HERE = str(Path(__file__).parent)


def python(program: str, *arguments: object) -> str:
    """What a program says, run in a process of its own: threads and memory of this one are others'."""
    begin = f"import sys; sys.path.insert(0, {HERE!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + program, *map(str, arguments)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


POOL = """
import os, sys
import numpy as np
from pathlib import Path
import test_engine_onnxruntime_library as t
folder = Path(sys.argv[1])
x = np.arange(12, dtype=np.float32).reshape(3, 4)
def tasks(): return len(os.listdir("/proc/self/task"))
def loaded(**options):
    model = t.load(folder, t.identity(shape=(3, 4)), **options)
    assert np.array_equal(model.run(["y"], {"x": x})[0], x)
    return model
"""


@ORT
def test_onnxruntime_models_share_one_pool_of_threads(tmp_path):
    program = POOL + (
        "models = [loaded(threads=3, spinning=False)]; one = tasks()\n"
        "models += [loaded(threads=3, spinning=False) for _ in range(7)]\n"
        "models += [loaded(), loaded(threads=1)]; print(tasks() - one, models[0]._api.pool)"
    )
    assert python(program, tmp_path) == "0 (3, False)\n"


@ORT
def test_another_number_of_threads_is_kept_to(tmp_path):
    """What was asked for goes before sharing: two more threads for three, none for one."""
    program = POOL + (
        "first = loaded(threads=2); before = tasks(); other = loaded(threads=3); print(tasks() - before)\n"
        "single = loaded(threads=1); print(tasks() - before)"
    )
    assert python(program, tmp_path) == "2\n2\n"


@ORT
def test_after_a_model_of_one_thread_models_have_threads_of_their_own(tmp_path):
    program = POOL + (
        "single = loaded(threads=1); before = tasks(); print(single._api.pool)\n"
        "more = [loaded(threads=2) for _ in range(2)]; print(tasks() - before)"
    )
    assert python(program, tmp_path) == "None\n2\n"


@ORT
def test_a_forks_child_does_not_wait_for_threads_that_it_lacks(tmp_path):
    program = POOL + (
        "models = [loaded(threads=2) for _ in range(2)]\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    models.append(loaded(threads=2))\n"
        "    fine = all(np.array_equal(model.run(['y'], {'x': x})[0], x) for model in models)\n"
        "    [model.close() for model in models]\n"
        "    os._exit(0 if fine else 1)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(all(np.array_equal(model.run(['y'], {'x': x})[0], x) for model in models))"
    )
    assert python(program, tmp_path) == "True\n"


@ORT
def test_runs_of_models_that_share_a_pool_at_once(tmp_path):
    program = POOL + (
        "import threading\n"
        "models, wrong = [loaded(threads=2) for _ in range(4)], []\n"
        "def work(model, factor):\n"
        "    for _ in range(200):\n"
        "        if not np.array_equal(model.run(['y'], {'x': x * factor})[0], x * factor): wrong.append(factor)\n"
        "threads = [threading.Thread(target=work, args=pair) for pair in zip(models, range(4))]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]; print(wrong)"
    )
    assert python(program, tmp_path) == "[]\n"


PRIVATE = """
def private():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty")) * 1024
"""


def weighty(kind: str) -> bytes:
    """y = x · W with 16 MB of weights, none of them zero."""
    from onnx import helper, numpy_helper

    weights = np.random.default_rng(0).normal(size=(1024, 4096)).astype(np.float32)
    info = [helper.make_tensor_value_info(n, 1, [1, size]) for n, size in (("x", 1024), ("y", 4096))]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        info[:1],
        info[1:],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if kind == "onnx":
        return model.SerializeToString()
    import onnx_ir as ir

    from edgec_targets.emitters.litert.conversion import convert

    data = convert(ir.serde.deserialize_model(model)).data
    assert data
    return data


@ORT
def test_what_loading_leaves_behind_goes_back_to_the_system(tmp_path):
    """16 MB of weights: held once, packed, not the file's and the packed ones; after closing, none of them."""
    (tmp_path / "w.onnx").write_bytes(weighty("onnx"))
    program = (
        POOL
        + PRIVATE
        + (
            "loaded(threads=1).close(); before = private()\n"
            "model = t.load(folder, (folder / 'w.onnx').read_bytes(), threads=1)\n"
            "model.run(['y'], {'x': np.ones((1, 1024), np.float32)}); held = private() - before\n"
            "model.close(); print(held, private() - before)"
        )
    )
    held, left = map(int, python(program, tmp_path).split())
    assert 16e6 < held < 24e6 and left < 4e6


@LITERT
def test_processes_share_the_pages_of_a_models_file(tmp_path):
    """Two processes with the same app: the file's pages count half for each."""
    pytest.importorskip("onnx_ir")
    (tmp_path / "m.tflite").write_bytes(weighty("tflite"))
    program = """
import sys
import numpy as np
from edgec_runtime.engines import litert_capi
from edgec_runtime.payload import StoredPayload
payload = StoredPayload({"id": "p", "engine": "litert", "engine_version": ">=2", "files": {"model": "m"}},
                        {"model": sys.argv[1]})
payload.proven = litert_capi.library().stamp()
model = litert_capi.Engine().load(payload, {"threads": 1})
model.run(["y"], {"x": np.ones((1, 1024), np.float32)})
print("ready", flush=True)
sys.stdin.readline()
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "m.tflite")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 2
        for process in processes:
            found = of_file(process.pid, "m.tflite")
            assert found["Rss"] > 0 and found["Private_Dirty"] == 0
            assert found["Pss"] <= 0.6 * found["Rss"]
    finally:
        for process in processes:
            process.communicate("\n")


def of_file(process: int, name: str) -> dict[str, int]:
    """Bytes by kind of what a process has of a file in memory (/proc/PID/smaps)."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = os.path.basename(words[-1]) == name
        elif inside and words[-1] == "kB":
            found[words[0][:-1]] = found.get(words[0][:-1], 0) + int(words[1]) * 1024
    return found
