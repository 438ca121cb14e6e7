"""ONNX Runtime called by its C library: the answers of its Python package, every plain type, what it leaves to it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import edgec_runtime as rt
from edgec_runtime.engines import choice, onnxruntime_capi
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.errors import BadInputError, UnsupportedError
from edgec_runtime.payload import StoredPayload

pytestmark = pytest.mark.skipif(onnxruntime_capi.library() is None, reason="there is no libonnxruntime.so")
ONNX = {"float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
        "float64": 11, "uint32": 12, "uint64": 13}  # fmt: skip


def model(nodes, inputs, outputs, opset=21):
    info = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in side] for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "g", *info)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return made.SerializeToString()


def identity(dtype="float32", shape=(1, 4)):
    kind = ONNX.get(dtype, dtype)
    return model([helper.make_node("Identity", ["x"], ["y"])], [("x", kind, shape)], [("y", kind, shape)])


def load(folder, data, **options):
    (folder / "m.onnx").write_bytes(data)
    entry = {"id": "p", "engine": "onnxruntime", "engine_version": ">=1.18,<2", "files": {"model": "m"}}
    return onnxruntime_capi.Engine().load(StoredPayload(entry, {"model": str(folder / "m.onnx")}), options)


def numbers(dtype, shape):
    count = int(np.prod(shape)) if shape else 1
    return (np.arange(count) % 2 if dtype == "bool" else np.arange(count)).astype(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ONNX)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 3)], ids=str)
def test_every_plain_type_and_shape(tmp_path, dtype, shape):
    x = numbers(dtype, shape)
    executable = load(tmp_path, identity(dtype, shape), threads=1)
    answer = executable.run(["y"], {"x": x})[0]
    assert answer.dtype == x.dtype and answer.shape == shape and np.array_equal(answer, x)
    given = memoryview(x.view(np.uint16)) if dtype == "float16" else memoryview(x)
    view = executable.run(["y"], {"x": given})[0]
    assert bytes(view) == x.tobytes() and view.shape == shape


@pytest.mark.parametrize("dtype", [TensorProto.STRING, TensorProto.BFLOAT16])
def test_other_types_are_refused_and_the_package_takes_them(tmp_path, dtype):
    with pytest.raises(RefusedError, match=r"is (string|bfloat16)"):
        load(tmp_path, identity(dtype, (2,)))


OPTIONS = [
    {"threads": 1, "spinning": False, "arena": False},
    {"threads": 2, "spinning": True},
    {"optimization": "basic"},
    {"optimization": "all", "arena": True},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options(tmp_path, options):
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(load(tmp_path, identity(), **options).run(["y"], {"x": x})[0], x)


@pytest.mark.parametrize("options", [{"threads": "many"}, {"threads": -1}, {"optimization": "max"}, {"x": 1}])
def test_options_that_make_no_sense(tmp_path, options):
    with pytest.raises(RefusedError):
        load(tmp_path, identity(), **options)


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", b"\x08\x0a" * 100])
def test_what_is_no_model(tmp_path, content):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(4):
        with pytest.raises(RefusedError, match="refuses"):
            load(tmp_path, content)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_free_sizes_and_outputs_whose_shape_depends_on_values(tmp_path):
    nodes = [helper.make_node("NonZero", ["x"], ["where"]), helper.make_node("Add", ["x", "x"], ["twice"])]
    data = model(nodes, [("x", 1, ["n", 3])], [("where", 7, [2, "found"]), ("twice", 1, ["n", 3])])
    executable = load(tmp_path, data)
    for rows in (1, 4, 2):
        x = (np.arange(3 * rows) % 3).astype(np.float32).reshape(rows, 3)
        where, twice = executable.run(["where", "twice"], {"x": x})
        assert np.array_equal(where, np.nonzero(x)) and np.array_equal(twice, 2 * x)
    (twice,) = executable.run(["twice"], {"x": memoryview(x)})
    assert twice.tolist() == (2 * x).tolist()
    with pytest.raises(RuntimeError, match=r"(?i)dimension|shape"):
        executable.run(["twice"], {"x": np.zeros((2, 4), np.float32)})
    assert np.array_equal(executable.run(["twice"], {"x": x})[0], 2 * x)


def test_no_rows_at_all(tmp_path):
    data = model([helper.make_node("Add", ["x", "x"], ["y"])], [("x", 1, ["n", 3])], [("y", 1, ["n", 3])])
    executable = load(tmp_path, data)
    assert executable.run(["y"], {"x": np.zeros((0, 3), np.float32)})[0].shape == (0, 3)
    assert executable.run(["y"], {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[2, 2, 2]]


def test_several_inputs_in_any_order(tmp_path):
    nodes = [helper.make_node("Sub", ["a", "b"], ["d"]), helper.make_node("Add", ["a", "b"], ["s"])]
    data = model(nodes, [("a", 1, [2]), ("b", 1, [2])], [("d", 1, [2]), ("s", 1, [2])])
    executable = load(tmp_path, data)
    a, b = np.array([5, 7], np.float32), np.array([1, 2], np.float32)
    s, d = executable.run(["s", "d"], {"b": b, "a": a})
    assert s.tolist() == [6, 9] and d.tolist() == [4, 5]


def test_sequences_are_refused(tmp_path):
    info = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("SequenceLength", ["s"], ["y"])], "g", [info],
                              [helper.make_tensor_value_info("y", TensorProto.INT64, [])])  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(RefusedError, match="no tensor"):
        load(tmp_path, made.SerializeToString())


def test_threads_and_closing(tmp_path):
    executable = load(tmp_path, identity(shape=(1, 512)), threads=1)
    wrong = []

    def work(seed):
        for _ in range(200):
            x = np.full((1, 512), seed, np.float32)
            if not np.array_equal(executable.run(["y"], {"x": x})[0], x):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    executable.close()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2])
def test_a_fork_after_loading(tmp_path, threads):
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import numpy as np
from pathlib import Path
import test_engine_onnxruntime_library as t
executable = t.load(Path({str(tmp_path)!r}), t.identity(shape=(1, 64)), threads={threads})
x = np.ones((1, 64), np.float32)
assert np.array_equal(executable.run(["y"], {{"x": x}})[0], x)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(executable.run(["y"], {{"x": x}})[0], x) else 1)
assert os.waitpid(child, 0)[1] == 0
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout == "fine\n", done.stderr


def test_a_process_without_numpy_and_without_the_package(tmp_path, kit):
    kit.files["payloads/onnxruntime/model.onnx"] = identity(shape=(2, 3))
    path, keys = kit.write(tmp_path), tmp_path / "keys"
    keys.mkdir()
    from edgec_runtime.trust import store

    (keys / f"{store.key_id(kit.trust[0])}.pem").write_bytes(store.to_pem(kit.trust[0]))
    program = f"""
import sys
sys.modules["numpy"] = None
from array import array
import edgec_runtime as rt
with rt.load({str(path)!r}, trust={str(keys)!r}) as model:
    x = memoryview(array("f", range(6))).cast("B").cast("f", (2, 3))
    print(model.run({{"x": x}})["y"].tolist(), "onnxruntime" in sys.modules, model.info["engine_version"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    version = onnxruntime_capi.library().version
    assert done.stdout == f"[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]] False {version}\n", done.stderr


def test_a_process_that_has_the_package_uses_it():
    import onnxruntime

    engine = choice.Choice("onnxruntime")
    assert engine.version() == onnxruntime.__version__ and engine.library() is None


def test_a_library_that_is_none(tmp_path, kit, monkeypatch):
    (tmp_path / "libonnxruntime.so.1.99.0").write_bytes(b"nothing")
    monkeypatch.setenv(onnxruntime_capi.VARIABLE, str(tmp_path / "libonnxruntime.so.1.99.0"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    kit.files["payloads/onnxruntime/model.onnx"] = identity(shape=(2, 3))
    with pytest.raises(UnsupportedError) as caught:
        rt.load(kit.write(tmp_path), trust=kit.trust)
    assert "it is no shared library" in caught.value.why


def test_the_models_own_words_when_it_fails(tmp_path):
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    executable = load(tmp_path, model(nodes, [("x", 1, [4]), ("shape", 7, [2])], [("y", 1, ["a", "b"])]))
    x = np.zeros(4, np.float32)
    assert executable.run(["y"], {"x": x, "shape": np.array([2, 2])})[0].shape == (2, 2)
    with pytest.raises(RuntimeError, match="Reshape"):
        executable.run(["y"], {"x": x, "shape": np.array([3, 3])})
    assert executable.run(["y"], {"x": x, "shape": np.array([1, 4])})[0].shape == (1, 4)


def test_failures_are_bad_input_in_the_runtime(tmp_path, kit, monkeypatch):
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    kit.files["payloads/onnxruntime/model.onnx"] = model(
        nodes, [("x", 1, [4]), ("shape", 7, [2])], [("y", 1, ["a", "b"])]
    )
    kit.manifest["inputs"] = [{"name": "x", "dtype": "float32", "shape": [4], "layout": None},
                              {"name": "shape", "dtype": "int64", "shape": [2], "layout": None}]  # fmt: skip
    kit.manifest["outputs"] = [{"name": "y", "dtype": "float32", "shape": ["a", "b"], "layout": None}]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as loaded:
        with pytest.raises(BadInputError, match="failed on these inputs"):
            loaded.run({"x": np.zeros(4, np.float32), "shape": np.array([3, 3])})
        assert loaded.run({"x": np.zeros(4, np.float32), "shape": np.array([4, 1])})["y"].shape == (4, 1)


@pytest.mark.parametrize("way", ["library", "package"])
def test_outputs_into_memoryviews(tmp_path, kit, way, monkeypatch):
    if way == "library":
        monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    else:
        monkeypatch.setenv(onnxruntime_capi.VARIABLE, "/nowhere")
    kit.files["payloads/onnxruntime/model.onnx"] = identity(shape=(2, 3))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    with rt.load(kit.write(tmp_path), trust=kit.trust) as loaded:
        assert (loaded._executable.__class__.__module__ == onnxruntime_capi.__name__) is (way == "library")
        view = memoryview(bytearray(24)).cast("f", (2, 3))
        for factor in (1, 2):
            assert loaded.run({"x": x * factor}, out={"y": view})["y"] is view
            assert view.tolist() == (x * factor).tolist()
