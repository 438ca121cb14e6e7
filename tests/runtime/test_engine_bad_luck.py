"""What goes wrong on a board: the next payload, or one clear error; never a crash or a wrong answer.

Missing, wrong and half-written libraries, memory that runs out, files that an engine refuses, threads, forks, signals.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from binascii import a2b_base64
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import edgec_runtime as rt
from edgec_runtime.engines import library, litert_capi, litert_package, onnxruntime_capi, selfcheck
from edgec_runtime.errors import MissingError, UnsupportedError, UsageError
from edgec_runtime.trust import store
from tests.runtime.litert_models import RELU, X, tflite

pytestmark = pytest.mark.skipif(
    litert_capi.library() is None or onnxruntime_capi.library() is None, reason="an engine's library is missing"
)
CAPI = {"litert": litert_capi, "onnxruntime": onnxruntime_capi}
engines = pytest.mark.parametrize("engine", CAPI)
LITERT = a2b_base64(selfcheck.MODEL)


def onnx_relu(shape=(1, 4)) -> bytes:
    info = [helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


WIDE = (1, 1 << 22)  # 16 MB in and 16 MB out


def wide(engine: str) -> bytes:
    """relu(x) of so many numbers that a call takes a while and memory."""
    return tflite(shape=WIDE) if engine == "litert" else onnx_relu(WIDE)


@pytest.fixture
def app(kit, tmp_path):
    """app("litert", "onnxruntime") is a bundle of relu(x) with a payload for each, in this order; and its keys."""

    def make(*wanted, shape=(1, 4), files=None, **changes):
        kit.files = {f"payloads/{engine}": LITERT if engine == "litert" else onnx_relu() for engine in wanted}
        kit.files |= files or {}
        for side, name in (("inputs", "x"), ("outputs", "y")):
            kit.manifest[side] = [{"name": name, "dtype": "float32", "shape": list(shape), "layout": None}]
        kit.manifest["payloads"] = [
            kit.payload(**{"id": engine, "engine": engine, "engine_version": ">=1.18", "proven_with": None,
                           "files": {"model": f"payloads/{engine}"}, **changes.get(engine, {})})
            for engine in wanted
        ]  # fmt: skip
        keys = tmp_path / "keys"
        keys.mkdir(exist_ok=True)
        (keys / f"{store.key_id(kit.trust[0])}.pem").write_bytes(store.to_pem(kit.trust[0]))
        return kit.write(tmp_path), keys

    return make


@pytest.fixture
def only_libraries(monkeypatch):
    """The engines' Python packages can't be imported; what they would load is not in memory either."""
    for name in ("onnxruntime", *litert_package.PACKAGES, *(f"{p}.interpreter" for p in litert_package.PACKAGES)):
        monkeypatch.setitem(sys.modules, name, None)


def in_child(program: str, *arguments: object, limit: float = 60) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, without the engines' packages."""
    packages = ("onnxruntime", "ai_edge_litert", "tflite_runtime")
    begin = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", begin + program, *map(str, arguments)], capture_output=True, text=True, timeout=limit
    )


# Libraries: missing, of another version, half written, replaced


@engines
def test_a_missing_library_gives_way_to_the_next_payload(app, only_libraries, monkeypatch, engine):
    other = next(name for name in CAPI if name != engine)
    path, keys = app(engine, other)
    monkeypatch.setenv(CAPI[engine].VARIABLE, "/nowhere")
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == other and model.run({"x": X})["y"].tolist() == RELU
        (refused,) = model.info["refused"]
        assert refused["payload"] == engine and "not installed" in refused["why"]


def test_all_libraries_missing_is_one_error_that_names_each(app, only_libraries, monkeypatch):
    path, keys = app("litert", "onnxruntime")
    for capi in CAPI.values():
        monkeypatch.setenv(capi.VARIABLE, "/nowhere")
    with pytest.raises(MissingError, match="engine is missing") as caught:
        rt.load(path, trust=str(keys))
    assert "litert: " in caught.value.why and "onnxruntime: " in caught.value.why


@engines
def test_a_library_of_another_version_gives_way_and_both_is_one_error(app, only_libraries, engine):
    other = next(name for name in CAPI if name != engine)
    path, keys = app(engine, other, **{engine: {"engine_version": ">=98,<99"}})
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == other
        assert f"it needs {engine} >=98,<99" in model.info["refused"][0]["why"]
    path, keys = app(engine, other, **{name: {"engine_version": ">=98,<99"} for name in CAPI})
    with pytest.raises(MissingError) as caught:
        rt.load(path, trust=str(keys))
    assert caught.value.why.count(">=98,<99") == 2


@engines
def test_a_half_written_library_is_not_loaded(app, only_libraries, monkeypatch, tmp_path, engine):
    """Loading one would end the process: its pages beyond the file's end are no memory."""
    whole = CAPI[engine].library()
    name = os.path.basename(whole.path)
    (tmp_path / f"{name}.version").write_text(whole.version)
    monkeypatch.setenv(CAPI[engine].VARIABLE, str(tmp_path / name))
    other = next(one for one in CAPI if one != engine)
    path, keys = app(engine, other)
    size = os.path.getsize(whole.path)
    for part in (0, 63, 64, 4096, size // 2, size - 1):
        with open(whole.path, "rb") as source, open(tmp_path / name, "wb") as target:
            shutil.copyfileobj(source, target)
            target.truncate(part)
        with rt.load(path, trust=str(keys)) as model:
            assert model.info["payload"] == other
            said = model.info["refused"][0]["why"]
            assert f"cut off: {part} of {size}" in said if part >= 64 else "no shared library" in said
    assert library.cut_short(whole.path) == ""


REPLACED = """
import os, sys
import edgec_runtime as rt
from array import array
path, keys, target, how = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
def right(model): return model.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]]
model = rt.load(path, trust=keys)
assert right(model)
if how == "removed": os.unlink(target)
else:
    with open(target + ".new", "wb") as file: file.write(b"half of another")
    os.replace(target + ".new", target)
assert right(model)
second = rt.load(path, trust=keys)  # this process keeps the library that it has
assert right(second) and right(model)
model.close(); second.close()
print("fine")
"""


@engines
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_library_replaced_while_it_runs(app, monkeypatch, tmp_path, engine, how):
    """As pip does it: a new file under the old name. Who runs goes on; who starts then sees the new file."""
    whole = CAPI[engine].library()
    target = tmp_path / os.path.basename(whole.path)
    os.link(whole.path, target)
    (tmp_path / f"{target.name}.version").write_text(whole.version)
    monkeypatch.setenv(CAPI[engine].VARIABLE, str(target))
    path, keys = app(engine)
    done = in_child(REPLACED, path, keys, target, how)
    if how == "removed" and done.returncode:
        assert "is missing" in done.stderr  # the second load finds none; what was loaded went on
    else:
        assert done.stdout == "fine\n", done.stderr
    later = in_child("import edgec_runtime as rt; rt.load(sys.argv[1], trust=sys.argv[2])", path, keys)
    assert later.returncode == 1 and ("E401" in later.stderr or "E1001" in later.stderr), later.stderr


# Memory


LIMITED = """
import resource, sys
import edgec_runtime as rt
from edgec_runtime.errors import Error
path, keys, room = sys.argv[1:]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(float(room) * 1e6), -1))
try:
    with rt.load(path, trust=keys) as model:
        shape = tuple(model.inputs[0]["shape"])
        answer = model.run({"x": memoryview(bytearray(4 * shape[0] * shape[1])).cast("f", shape)})
        print("ran", model.info["payload"], [refused["why"] for refused in model.info["refused"]])
except Error as error:
    print(error.code, error.why)
except MemoryError:
    print("MemoryError")
"""


@engines
def test_too_little_memory_is_an_error_or_enough(app, engine):
    """From hardly any to plenty: each time it runs or says why not; it is never aborted."""
    path, keys = app(engine, shape=WIDE, files={f"payloads/{engine}": wide(engine)})
    outcomes = []
    for room in (12, 40, 90, 500):
        done = in_child(LIMITED, path, keys, room)
        assert done.returncode == 0, (room, done.stderr)
        outcomes.append(done.stdout.split()[0])
    assert outcomes[0] in ("E401", "E1001", "E405", "MemoryError") and outcomes[-1] == "ran", outcomes
    assert outcomes == sorted(outcomes, key="ran".__eq__)  # what is enough once is enough with more


def test_a_payload_that_is_said_to_need_more_gives_way(app):
    path, keys = app("onnxruntime", "litert", onnxruntime={"memory": 10**9}, litert={"memory": 10**5})
    done = in_child(LIMITED, path, keys, 200)
    assert done.stdout.startswith("ran litert ['it needs 1000 MB of memory; 1"), done.stdout + done.stderr


def test_a_run_without_memory_is_no_bad_input(app):
    path, keys = app("litert")
    with rt.load(path, trust=str(keys)) as model:
        for cause in (MemoryError(), RuntimeError("Non-zero status code ... std::bad_alloc")):
            error = model._failed(cause)
            assert isinstance(error, UnsupportedError) and error.code == "E405" and "litert" in error.why


# Files that an engine refuses


def operator(name: str) -> bytes:
    """A TFLite file whose only operator is of this kind, with one input and one output and no options."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(bytearray(LITERT), 0)
    code = model.operatorCodes[0]
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.customCode = b"NobodysOperator" if name == "CUSTOM" else None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("name", ["CUSTOM", "CONV_2D", "UNIDIRECTIONAL_SEQUENCE_LSTM", "CONCATENATE_NOBODY"])
def test_a_tflite_form_that_is_refused_gives_way(app, only_libraries, name):
    data = operator(name) if name != "CONCATENATE_NOBODY" else LITERT[:200]
    path, keys = app("litert", "onnxruntime", files={"payloads/litert": data})
    with rt.load(path, trust=str(keys)) as model:
        assert model.info["payload"] == "onnxruntime" and model.run({"x": X})["y"].tolist() == RELU
        assert "LiteRT refuses the model" in model.info["refused"][0]["why"]
    path, keys = app("litert", files={"payloads/litert": data})
    with pytest.raises(UnsupportedError) as caught:
        rt.load(path, trust=str(keys))
    assert caught.value.code == "E401" and "LiteRT refuses the model" in caught.value.why


# Threads, forks, signals


@engines
def test_threads_that_call_one_model(app, only_libraries, engine):
    """numpy arrays, memoryviews and out=, all at once; then it is closed while they run."""
    path, keys = app(engine)
    model = rt.load(path, trust=str(keys))
    wrong, stop, ended = [], threading.Event(), []

    def work(number):
        x = np.arange(4, dtype=np.float32).reshape(1, 4) - number
        want = np.maximum(x, 0).tolist()
        out = {"y": np.empty((1, 4), np.float32)}
        try:
            for turn in range(10**6):
                if number % 3 == 2:
                    answer = model.run({"x": x}, out=out)
                else:
                    answer = model.run({"x": memoryview(x) if number % 3 else x})
                if answer["y"].tolist() != want:
                    wrong.append((number, turn))
                if turn > 300 and number == 0:
                    stop.set()
        except UsageError:
            ended.append(number)

    # Each way of its own arrays: threads that share `out` would see each other's answers.
    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    stop.wait(60)
    model.close()
    for thread in threads:
        thread.join(60)
    assert not wrong and sorted(ended) == [0, 1, 2, 3, 4]


FORKS = """
import os, sys, threading
import edgec_runtime as rt
from array import array
path, keys, threads = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
models = [rt.load(path, trust=keys, threads=int(threads)) for _ in range(2)]
def right(): return all(m.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]] for m in models for _ in range(3))
assert right()
stop = []
def busy():
    while not stop: right()
other = threading.Thread(target=busy); other.start()
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        grandchild = os.fork()
        if grandchild == 0: os._exit(0 if right() else 1)
        fine = right() and os.waitpid(grandchild, 0)[1] == 0
        with rt.load(path, trust=keys, threads=int(threads)) as new: fine = fine and bool(new.run({"x": x}))
        [m.close() for m in models]
        os._exit(0 if fine else 1)
    children.append(child)
    assert right()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
stop.append(1); other.join()
assert right()
print("fine")
"""


@engines
@pytest.mark.parametrize("threads", [1, 2])
def test_forks_after_loading(app, engine, threads):
    """Children and their children run the models that were loaded, and load others; so does the parent meanwhile."""
    path, keys = app(engine)
    done = in_child(FORKS, path, keys, threads)
    assert done.stdout == "fine\n", done.stderr


SIGNALS = """
import os, signal, sys
import edgec_runtime as rt
from array import array
path, keys = sys.argv[1:]
x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
with rt.load(path, trust=keys) as model:
    stream_of_runs = stopped = 0
    while stopped < 400:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.00005 * (1 + stopped % 40))
            # Not for ever: an exception in a callback that Python ignores (a weak reference's, at an import) is lost.
            for _ in range(20000):
                answer = model.run({"x": x})
                assert answer["y"].tolist() == [[1, 0, 3, 0]]
                stream_of_runs += 1
        except Stop:
            pass
        stopped += 1
    assert model.run({"x": x})["y"].tolist() == [[1, 0, 3, 0]]
print("fine")
"""


@engines
def test_a_signal_whose_handler_raises_leaves_the_model_usable(app, engine):
    """400 times in the middle of runs: no lock stays locked, no answer is wrong."""
    path, keys = app(engine)
    done = in_child(SIGNALS, path, keys)
    assert done.stdout == "fine\n", done.stderr


TERMINATED = """
import signal, sys
import edgec_runtime as rt
path, keys, handler = sys.argv[1:]
if handler == "handler": signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
with rt.load(path, trust=keys) as model:
    shape = tuple(model.inputs[0]["shape"])
    x = memoryview(bytearray(4 * shape[1])).cast("f", shape)
    print("running", flush=True)
    while True: model.run({"x": x})
"""


@engines
@pytest.mark.parametrize("handler", ["default", "handler"])
def test_sigterm_during_a_call(app, engine, handler):
    """The system's way ends the process at once; a handler of the program's runs when the call has ended."""
    path, keys = app(engine, shape=WIDE, files={f"payloads/{engine}": wide(engine)})
    command = [sys.executable, "-c", TERMINATED, str(path), str(keys), handler]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        process.terminate()
        said = process.communicate(timeout=60)
    assert process.returncode == (7 if handler == "handler" else -signal.SIGTERM), said


def test_nothing_is_left_behind(app, only_libraries):
    """Loading that fails gives back its files."""
    path, keys = app("litert", files={"payloads/litert": LITERT[:200]})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(UnsupportedError):
            rt.load(path, trust=str(keys))
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [name for name in os.listdir(Path(keys).parent) if name.endswith(".new")]


@engines
def test_a_model_that_is_dropped_is_freed_at_once(app, only_libraries, engine):
    """Quick runs hold no circle: an engine's memory does not wait for the garbage collector."""
    import gc
    import weakref

    path, keys = app(engine)
    gc.disable()
    try:
        model = rt.load(path, trust=str(keys))
        out = {"y": np.empty((1, 4), np.float32)}
        for _ in range(3):
            assert model.run({"x": X})["y"].tolist() == model.run({"x": X}, out=out)["y"].tolist() == RELU
            assert model._executable.run(["y"], {"x": X})[0].tolist() == RELU
        freed = weakref.ref(model._executable)
        del model
        assert freed() is None
    finally:
        gc.enable()
