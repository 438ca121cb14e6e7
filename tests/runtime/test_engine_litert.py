"""LiteRT called by its C library, and by its Python package: same answers, every plain type, bad luck survived."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import choice, litert_capi, litert_package, native, selfcheck
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.errors import BadInputError, MissingError, UnsupportedError, UsageError
from edgec_runtime.payload import StoredPayload

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "string": 5, "bool": 6, "int16": 7, "int8": 9, "float16": 1,
         "float64": 10, "uint32": 15, "uint64": 12}  # fmt: skip
NUMBERS = [name for name in TYPES if name not in ("string", "float16", "float64", "uint64")]


def tflite(operator="RELU", dtype="float32", shape=(1, 4), *, free=False, size=0):
    """One operator of x → y (RESHAPE keeps the shape: it copies any type), with a signature as our emitter's."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = []
    for name in "xy":
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), TYPES[dtype], 0
        if free:
            tensor.shapeSignature = [-1, *shape[1:]]
        graph.tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0], [1]
    if operator == "RESHAPE":
        step.builtinOptionsType, step.builtinOptions = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
        step.builtinOptions.newShape = list(shape)
    graph.operators, graph.inputs, graph.outputs = [step], [0], [1]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [], []
    for place, (name, tensors) in enumerate((("x", signature.inputs), ("y", signature.outputs))):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), place
        tensors.append(entry)
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], [code]
    model.subgraphs, model.signatureDefs = [graph], [signature]
    if size:
        padding = schema.BufferT()
        padding.data = np.zeros(size, np.uint8)
        model.buffers.append(padding)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def payload(folder: Path, data: bytes) -> StoredPayload:
    (folder / "m.tflite").write_bytes(data)
    entry = {"id": "p", "engine": "litert", "engine_version": ">=2.3,<3", "files": {"model": "m"}}
    made = StoredPayload(entry, {"model": str(folder / "m.tflite")})
    made.proven = litert_capi.library().stamp()  # the check in a child process has tests of its own
    return made


def load(folder, data=None, adapter=litert_capi, **options):
    return adapter.Engine().load(payload(folder, tflite() if data is None else data), {"threads": 1, **options})


def bundle(kit, data, *, dtype="float32", shape=(1, 4), **changes):
    kit.files = {"payloads/litert/model.tflite": data}
    tensors = [{"name": name, "dtype": dtype, "shape": list(shape), "layout": None} for name in "xy"]
    kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:1], tensors[1:]
    entry = {
        "id": "litert-float32", "engine": "litert", "engine_version": ">=2.3,<3", "options": {"threads": 1},
        "proven_with": {"package": "ai-edge-litert", "version": "2.3.0"},
        "files": {"model": "payloads/litert/model.tflite"}, **changes,
    }  # fmt: skip
    kit.manifest["payloads"] = [kit.payload(**entry)]
    return kit


X = np.array([[1, -2, 3, -4]], np.float32)
RELU = [[1.0, 0.0, 3.0, 0.0]]


@pytest.mark.parametrize("adapter", [litert_capi, litert_package], ids=["library", "package"])
def test_a_model_runs(tmp_path, adapter):
    executable = load(tmp_path, adapter=adapter)
    assert repr(executable.inputs) == "[Tensor('x', 'float32', (1, 4))]" and executable.outputs[0].name == "y"
    for _ in range(3):
        assert executable.run(["y"], {"x": X})[0].tolist() == RELU
    executable.close()
    with pytest.raises(UsageError, match="closed"):
        executable.run(["y"], {"x": X})
    executable.close()


def test_numpy_answers_numpy_and_views_answer_views(tmp_path):
    executable = load(tmp_path)
    view = memoryview(array("f", X.ravel())).cast("B").cast("f", (1, 4))
    assert type(executable.run(["y"], {"x": X})[0]) is np.ndarray
    answer = executable.run(["y"], {"x": view})[0]
    assert type(answer) is memoryview and answer.shape == (1, 4) and answer.tolist() == RELU
    assert not answer.readonly


def test_answers_are_memory_of_their_own(tmp_path):
    executable = load(tmp_path)
    first = executable.run(["y"], {"x": X})[0]
    executable.run(["y"], {"x": -X})
    assert first.tolist() == RELU
    first[:] = 7
    assert executable.run(["y"], {"x": X})[0].tolist() == RELU


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (1, 2, 1, 3)], ids=str)
def test_every_plain_type_and_shape(tmp_path, dtype, shape):
    x = (np.arange(int(np.prod(shape)) or 1).reshape(shape) % 2 if dtype == "bool" else np.arange(
        int(np.prod(shape)) or 1).reshape(shape) * 3).astype(dtype)  # fmt: skip
    executable = load(tmp_path, tflite("RESHAPE", dtype, shape))
    given = np.ascontiguousarray(x).reshape(shape)
    answer = executable.run(["y"], {"x": given})[0]
    assert answer.dtype == x.dtype and answer.shape == shape and np.array_equal(answer, x)
    view = executable.run(["y"], {"x": memoryview(given)})[0]
    assert view.tolist() == x.tolist() and np.asarray(view).dtype == x.dtype


def test_half_precision_in_bits_or_as_it_is(tmp_path, kit):
    x = np.array([[1.5, -2, 0, 3]], np.float16)
    with rt.load(bundle(kit, tflite("RESHAPE", "float16"), dtype="float16").write(tmp_path), trust=kit.trust) as model:
        assert np.array_equal(model.run({"x": x})["y"], x)
        bits = memoryview(x.view(np.uint16))
        answer = model.run({"x": bits})["y"]
        assert bytes(answer) == x.tobytes() and answer.shape == (1, 4)


def test_text_is_refused_with_the_reason(tmp_path):
    with pytest.raises(RefusedError, match="string"):
        load(tmp_path, tflite("RESHAPE", "string"))


@pytest.mark.parametrize("adapter", [litert_capi, litert_package], ids=["library", "package"])
def test_a_free_size_is_taken_as_it_comes(tmp_path, adapter):
    executable = load(tmp_path, tflite(free=True), adapter=adapter)
    for rows in (1, 5, 2, 2, 1):
        x = np.arange(-4 * rows + 2, 2, dtype=np.float32).reshape(rows, 4)
        assert np.array_equal(executable.run(["y"], {"x": x})[0], np.maximum(x, 0))
    executable.close()


@pytest.mark.parametrize("adapter", [litert_capi, litert_package], ids=["library", "package"])
def test_a_fixed_size_is_an_error_and_the_model_lives_on(tmp_path, adapter):
    executable = load(tmp_path, adapter=adapter)
    with pytest.raises(native.CallError, match="not \\[2, 4\\]"):
        executable.run(["y"], {"x": np.zeros((2, 4), np.float32)})
    assert executable.run(["y"], {"x": X})[0].tolist() == RELU


def test_through_the_runtime(tmp_path, kit):
    with rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust) as model:
        assert model.info["engine"] == "litert" and model.info["engine_version"] == litert_capi.library().version
        assert model.run({"x": X})["y"].tolist() == RELU
        view = memoryview(X)
        for _ in range(3):
            assert model.run({"x": view})["y"].tolist() == RELU
        with pytest.raises(BadInputError, match="dtype float32"):
            model.run({"x": memoryview(X.astype(np.float64))})
        with pytest.raises(BadInputError, match="expected 4 on axis 1"):
            model.run({"x": memoryview(np.zeros((1, 5), np.float32))})
        with pytest.raises(BadInputError, match="C-contiguous"):
            model.run({"x": memoryview(np.zeros((4, 2), np.float32)[:, :1].T)})
        out = {"y": np.empty((1, 4), np.float32)}
        assert model.run({"x": X}, out=out)["y"] is out["y"] and out["y"].tolist() == RELU
        view = memoryview(bytearray(16)).cast("f", (1, 4))
        assert model.run({"x": memoryview(X)}, out={"y": view})["y"] is view and view.tolist() == RELU
        for wrong in (memoryview(bytes(16)).cast("f", (1, 4)), memoryview(bytearray(16)), [0, 0, 0, 0]):
            with pytest.raises(BadInputError, match="the array for the output 'y'"):
                model.run({"x": X}, out={"y": wrong})
    with pytest.raises(UsageError, match="closed"):
        model.run({"x": X})


def test_without_numpy(tmp_path, kit):
    """A process in which numpy can't be imported loads and runs, and imports nothing of the engine's package."""
    path = bundle(kit, tflite()).write(tmp_path)
    keys = tmp_path / "keys"
    keys.mkdir()
    from edgec_runtime.trust import store

    (keys / f"{store.key_id(kit.trust[0])}.pem").write_bytes(store.to_pem(kit.trust[0]))
    program = f"""
import sys
sys.modules["numpy"] = None
from array import array
import edgec_runtime as rt
with rt.load({str(path)!r}, trust={str(keys)!r}) as model:
    x = memoryview(array("f", [1, -2, 3, -4])).cast("B").cast("f", (1, 4))
    print(model.run({{"x": x}})["y"].tolist(), sorted(m for m in sys.modules if "litert" in m and "edgec" not in m))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{RELU} []\n", done.stderr


GARBAGE = [b"", b"\0", b"not a model", b"\x1c\0\0\0TFL3" + b"\xff" * 200, b"\x1c\0\0\0TFL3"]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_model_is_refused(tmp_path, data):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(RefusedError, match="refuses"):
            load(tmp_path, data)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_model_that_is_cut_off_is_refused_or_runs(tmp_path):
    whole = tflite()
    for cut in range(0, len(whole), 16):
        try:
            load(tmp_path, whole[:cut]).close()
        except RefusedError:
            continue


@pytest.mark.parametrize("options", [{"threads": "many"}, {"threads": -1}, {"x": 1}])
def test_options_that_make_no_sense(tmp_path, options):
    for adapter in (litert_capi, litert_package):
        with pytest.raises(RefusedError):
            load(tmp_path, adapter=adapter, **options)


def test_threads_are_taken(tmp_path):
    for threads in (None, 1, 2):
        executable = load(tmp_path, threads=threads, spinning=False, arena=None)
        assert executable.run(["y"], {"x": X})[0].tolist() == RELU
        executable.close()


def test_two_threads_in_one_executable(tmp_path):
    executable = load(tmp_path, tflite(shape=(1, 1024)))
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(300):
            x = rng.normal(size=(1, 1024)).astype(np.float32)
            if not np.array_equal(executable.run(["y"], {"x": x})[0], np.maximum(x, 0)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_several_models_share_the_library(tmp_path):
    models = []
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        models.append(load(folder, tflite(shape=(1, number + 1))))
    for number, model in enumerate(models):
        assert model.run(["y"], {"x": np.full((1, number + 1), 2, np.float32)})[0].sum() == 2 * (number + 1)
    assert len({id(model._api) for model in models}) == 1


FORK = """
import os, sys, threading
sys.path.insert(0, {tests!r})
import numpy as np
from pathlib import Path
import test_engine_litert as t
executable = t.load(Path({folder!r}), t.tflite(shape=(1, 64)), threads={threads})
x = np.arange(-32, 32, dtype=np.float32).reshape(1, 64)
want = np.maximum(x, 0)
assert np.array_equal(executable.run(["y"], {{"x": x}})[0], want)
stop = []
def busy():
    while not stop: executable.run(["y"], {{"x": x}})
thread = threading.Thread(target=busy); thread.start()   # the lock is held most of the time
for _ in range(5):
    child = os.fork()
    if child == 0:
        fine = all(np.array_equal(executable.run(["y"], {{"x": x}})[0], want) for _ in range(3))
        os._exit(0 if fine else 1)
    assert os.waitpid(child, 0)[1] == 0
stop.append(1); thread.join()
assert np.array_equal(executable.run(["y"], {{"x": x}})[0], want)
executable.close()
print("fine")
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_after_loading(tmp_path, threads):
    program = FORK.format(tests=str(Path(__file__).parent), folder=str(tmp_path), threads=threads)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "fine\n", done.stderr


@pytest.mark.parametrize("handler", [False, True], ids=["default", "handler"])
def test_sigterm_during_a_call(tmp_path, handler):
    program = f"""
import signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from pathlib import Path
import test_engine_litert as t
if {handler}: signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
executable = t.load(Path({str(tmp_path)!r}), t.tflite(shape=(1, 1 << 20)))
x = np.zeros((1, 1 << 20), np.float32)
print("running", flush=True)
while True: executable.run(["y"], {{"x": x}})
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=30) == (7 if handler else -signal.SIGTERM)


def test_memory_stays_where_it_was(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    data = tflite(shape=(1, 65536))
    for _ in range(10):
        load(tmp_path, data).close()
    before = resident()
    for _ in range(60):
        executable = load(tmp_path, data)
        executable.run(["y"], {"x": np.zeros((1, 65536), np.float32)})
        executable.close()
    for _ in range(20):
        load(tmp_path, data)  # not closed: freed when it is dropped
    assert resident() - before < 8e6


def test_a_models_file_is_mapped_not_copied(tmp_path):
    """40 MB of weights: the process holds them once, as file pages that other processes share."""
    data = tflite(size=40_000_000)
    executable = load(tmp_path, data)
    maps = Path("/proc/self/smaps").read_text()
    assert any("m.tflite" in line for line in maps.splitlines())
    executable.close()


def test_an_interpreter_without_the_c_half_of_ctypes_uses_ctypes(tmp_path):
    program = f"""
import ctypes, sys, types
sys.modules["_ctypes"] = types.ModuleType("_ctypes")
sys.path.insert(0, {str(Path(__file__).parent)!r})
from edgec_runtime.engines import foreign
assert foreign.c_void_p is ctypes.c_void_p
import numpy as np
from pathlib import Path
import test_engine_litert as t
print(t.load(Path({str(tmp_path)!r}), threads=2).run(["y"], {{"x": t.X}})[0].tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{RELU}\n", done.stderr


# Which library


def without_packages(monkeypatch):
    for package in litert_package.PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)


def wrong_library(folder: Path, source: str) -> str:
    path = folder / "libLiteRt.so"
    (folder / "wrong.c").write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, folder / "wrong.c"], check=True)
    (folder / "libLiteRt.so.version").write_text("2.9.0\n")
    return str(path)


WRONG = {
    "older": ("int LiteRtCreateEnvironment(void){return 0;}", "from 2.1.6 on"),
    "crashes": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return *(int *)8;}",
                "died of signal 11"),
    "fails": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return 5;}",
              "unsupported"),
    "lacks": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){return 0;}",
              "has no LiteRtGetNumModelSignatures"),
    "hangs": ("int LiteRtCreateModelFromFd(void){return 0;} int LiteRtCreateEnvironment(void){for(;;);}",
              "did not answer"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_library_does_no_harm(tmp_path, kit, monkeypatch, kind):
    source, said = WRONG[kind]
    monkeypatch.setattr(selfcheck, "TIMEOUT", 0.3)
    monkeypatch.setenv(litert_capi.VARIABLE, wrong_library(tmp_path, source))
    without_packages(monkeypatch)
    with pytest.raises(UnsupportedError) as caught:
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)
    assert said in caught.value.why


def test_a_wrong_library_gives_way_to_the_package(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, wrong_library(tmp_path, WRONG["crashes"][0]))
    kit = bundle(kit, tflite(), engine_version=">=2.3,<3")
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": X})["y"].tolist() == RELU


@pytest.mark.parametrize("content", [b"", b"no library", b"\x7fELF" + b"\0" * 60])
def test_a_file_that_is_no_library(tmp_path, kit, monkeypatch, content):
    (tmp_path / "libLiteRt.so").write_bytes(content)
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0")
    monkeypatch.setenv(litert_capi.VARIABLE, str(tmp_path / "libLiteRt.so"))
    without_packages(monkeypatch)
    with pytest.raises(UnsupportedError, match="no payload"):
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)


def test_no_library_and_no_package(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, "/nowhere")
    without_packages(monkeypatch)
    with pytest.raises(MissingError, match="engine is missing") as caught:
        rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust)
    assert "ai-edge-litert" in caught.value.fix


def test_a_version_out_of_range_and_one_unknown(tmp_path, kit, monkeypatch):
    path = bundle(kit, tflite(), engine_version=">=99").write(tmp_path)
    with pytest.raises(MissingError, match="missing") as caught:
        rt.load(path, trust=kit.trust)
    assert "it needs litert >=99" in caught.value.why
    target = tmp_path / "libLiteRt.so"
    target.symlink_to(litert_capi.library().path)
    monkeypatch.setenv(litert_capi.VARIABLE, str(target))
    assert litert_capi.Engine().version() is None
    (tmp_path / "libLiteRt.so.version").write_text("2.3.0\n")
    assert litert_capi.Engine().version() == "2.3.0"


def test_the_next_payload_is_taken(tmp_path, kit, onnx_model):
    bundle(kit, b"no model", shape=(2, 3))
    kit.files["payloads/onnxruntime/model.onnx"] = onnx_model()
    kit.manifest["payloads"].append(kit.payload())
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.info["engine"] == "onnxruntime" and "it is no TFLite model" in model.info["refused"][0]["why"]


def test_the_package_alone(tmp_path, kit, monkeypatch):
    monkeypatch.setenv(litert_capi.VARIABLE, "/nowhere")
    with rt.load(bundle(kit, tflite()).write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": X})["y"].tolist() == RELU
        assert model.info["engine_version"] == litert_package.Engine().version()


def test_both_ways_are_one_engine():
    engine = choice.Choice("litert")
    assert engine.version() == litert_capi.library().version
    assert engine.library().path == litert_capi.library().path and len(engine.library().sha256()) == 64
