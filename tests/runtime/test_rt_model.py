"""A real model through load and run: feeds, errors, buffers, threads, fallback to the next payload."""

from __future__ import annotations

import array
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import edgec_runtime as rt
from edgec_runtime import engines
from edgec_runtime.errors import BadInputError, Error, MissingError, TrustError, UnsupportedError, UsageError

MODEL = "payloads/onnxruntime/model.onnx"
X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def path(model_kit, tmp_path):
    return model_kit.write(tmp_path)


@pytest.fixture
def model(path, model_kit):
    with rt.load(path, trust=model_kit.trust) as loaded:
        yield loaded


def two_inputs(kit):
    """z = x + y of float32[n, 2] each, n free."""
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xyz"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "y"], ["z"])], "g", info[:2], info[2:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kit.files[MODEL] = made.SerializeToString()
    tensors = [{"name": name, "dtype": "float32", "shape": ["n", 2], "layout": None} for name in "xyz"]
    kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:2], tensors[2:]
    return kit


def test_run(model):
    assert np.array_equal(model.run({"x": X})["y"], 2 * X)
    assert np.array_equal(model.run({"x": X + 1})["y"], 2 * X + 2)  # the fast way, on other values
    assert list(model.run({"x": X})) == ["y"]


def test_info(model, path, keys):
    import onnxruntime

    assert model.info["payload"] == "onnxruntime-float32-host" and model.info["engine"] == "onnxruntime"
    assert model.info["engine_version"] == onnxruntime.__version__
    assert model.info["path"] == str(path) and model.info["signers"] == [keys(1).id] and model.info["trusted"]
    assert model.info["options"] == {"threads": 1} and model.info["refused"] == []
    assert "float32[2, 3]" in repr(model)
    assert model.inputs[0]["shape"] == [2, 3] and model.outputs[0]["name"] == "y"


def test_call(model, model_kit, tmp_path):
    assert np.array_equal(model(X)["y"], 2 * X)
    assert np.array_equal(model({"x": X})["y"], 2 * X)
    model_kit.manifest["preprocessing"] = [{"op": "resize", "size": [1, 2]}]
    with rt.load(model_kit.write(tmp_path), trust=model_kit.trust) as other:
        assert np.array_equal(other.run({"x": X})["y"], 2 * X)
        with pytest.raises(UnsupportedError, match="resize"):
            other(X)


@pytest.mark.parametrize(
    "feeds, words",
    [
        ({}, ["'x'", "missing"]),
        ({"z": X}, ["'x'", "missing", "'z'"]),
        ({"x": X, "z": X}, ["'z'"]),
        ({"x": X.astype("float64")}, ["'x'", "float64[2, 3]", "float32"]),
        ({"x": X.astype("int32")}, ["'x'", "int32", "float32"]),
        ({"x": X.astype(">f4")}, ["'x'", "big-endian"]),
        ({"x": X[0]}, ["'x'", "float32[3]", "2 dimensions"]),
        ({"x": X.T}, ["'x'", "float32[3, 2]", "2 on axis 0"]),
        ({"x": X[:, :0]}, ["'x'", "float32[2, 0]", "3 on axis 1"]),
        ({"x": None}, ["'x'", "NoneType"]),
        ({"x": [[0.0] * 3] * 2}, ["'x'", "list"]),
        ({"x": "abc"}, ["'x'", "str"]),
        ({"x": X.astype(object)}, ["'x'", "object"]),
        ({1: X}, ["'x'", "missing", "'1'"]),
        (X, ["ndarray", "dict"]),
        (None, ["NoneType", "dict"]),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_wrong_feeds(model, feeds, words, warm):
    if warm:
        model.run({"x": X})
    with pytest.raises(BadInputError) as caught:
        model.run(feeds)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.code in ("E910", "E911") and len(str(caught.value).splitlines()) == 3
    assert np.array_equal(model.run({"x": X})["y"], 2 * X)


def test_other_arrays_than_numpys(model):
    flat = array.array("f", X.ravel())
    view = memoryview(flat).cast("B").cast("f", (2, 3))
    assert np.array_equal(model.run({"x": view})["y"], 2 * X)

    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return X

    assert np.array_equal(model.run({"x": Wrapped()})["y"], 2 * X)


def test_arrays_with_gaps(model):
    wide = np.arange(12, dtype=np.float32).reshape(2, 6)
    for _ in range(2):
        assert np.array_equal(model.run({"x": wide[:, ::2]})["y"], 2 * wide[:, ::2])
        assert np.array_equal(model.run({"x": np.asfortranarray(X)})["y"], 2 * X)
        assert np.array_equal(model.run({"x": X})["y"], 2 * X)


def test_free_sizes_must_agree(kit, tmp_path):
    with rt.load(two_inputs(kit).write(tmp_path), trust=kit.trust) as model:
        for n in (1, 3, 0, 3):
            feeds = {"x": np.ones((n, 2), np.float32), "y": np.ones((n, 2), np.float32)}
            assert model.run(feeds)["z"].shape == (n, 2)
        feeds["y"] = np.ones((1, 2), np.float32)  # would broadcast
        with pytest.raises(BadInputError, match="3 for 'n' on axis 0, as the input 'x'"):
            model.run(feeds)


def test_sizes_without_a_name_need_not_agree(kit, tmp_path):
    """Paddle's exporter writes "?" for every free size: height and width differ."""
    two_inputs(kit)
    for tensor in kit.manifest["inputs"]:
        tensor["shape"] = ["?", "?"]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        feeds = {"x": np.ones((3, 2), np.float32), "y": np.ones((1, 2), np.float32)}
        assert model.run(feeds)["z"].shape == (3, 2)


def test_buffers_for_outputs(model):
    out = {"y": np.empty((2, 3), np.float32)}
    for step in range(3):
        result = model.run({"x": X + step}, out=out)
        assert result["y"] is out["y"] and np.array_equal(out["y"], 2 * (X + step))
    other = {"y": np.empty((2, 3), np.float32)}
    model.run({"x": X}, out=other)
    assert np.array_equal(other["y"], 2 * X) and np.array_equal(out["y"], 2 * (X + 2))


def test_buffers_for_free_sizes(kit, tmp_path):
    with rt.load(two_inputs(kit).write(tmp_path), trust=kit.trust) as model:
        feeds = {"x": np.ones((3, 2), np.float32), "y": np.ones((3, 2), np.float32)}
        out = {"z": np.empty((3, 2), np.float32)}
        assert model.run(feeds, out=out)["z"] is out["z"] and (out["z"] == 2).all()
        with pytest.raises(BadInputError):  # a buffer of another size than comes out
            model.run(feeds, out={"z": np.empty((4, 2), np.float32)})


@pytest.mark.parametrize(
    "out, words",
    [
        ({"q": np.empty((2, 3), np.float32)}, "no output 'q'"),
        ({"y": np.empty((2, 3), np.float64)}, "float64"),
        ({"y": np.empty((3, 2), np.float32)}, "[3, 2]"),
        ({"y": np.empty((2, 6), np.float32)[:, ::2]}, "gaps"),
        ({"y": np.broadcast_to(np.float32(0), (2, 3))}, "written"),
        ({"y": [0.0] * 6}, "list"),
    ],
)
def test_buffers_that_do_not_fit(model, out, words):
    with pytest.raises(BadInputError) as caught:
        model.run({"x": X}, out=out)
    assert words in str(caught.value) and caught.value.code == "E913"


def test_some_outputs_into_buffers(kit, tmp_path):
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Mul", ["x", "x"], ["z"])]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xyz"]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kit.files[MODEL] = made.SerializeToString()
    kit.manifest["outputs"] = [{**kit.manifest["outputs"][0], "name": name} for name in "yz"]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        out = {"z": np.empty((2, 3), np.float32)}
        result = model.run({"x": X}, out=out)
        assert result["z"] is out["z"] and np.array_equal(out["z"], X * X) and np.array_equal(result["y"], 2 * X)


def test_threads_at_once(model):
    wrong = []

    def work(number):
        x = np.full((2, 3), number, np.float32)
        out = {"y": np.empty((2, 3), np.float32)}
        for _ in range(200):
            if not (model.run({"x": x})["y"] == 2 * number).all():
                wrong.append(number)
            model.run({"x": x}, out=out)
            if not (out["y"] == 2 * number).all():
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_closed(path, model_kit):
    model = rt.load(path, trust=model_kit.trust)
    model.close()
    model.close()
    with pytest.raises(UsageError, match="closed"):
        model.run({"x": X})


def test_no_file_stays_open(path, model_kit):
    import os

    def count():
        return len(os.listdir("/proc/self/fd"))

    rt.load(path, trust=model_kit.trust).close()
    before = count()
    for _ in range(5):
        with rt.load(path, trust=model_kit.trust) as model:
            model.run({"x": X})
            assert count() == before
    assert count() == before


def test_without_memfd(path, model_kit, monkeypatch):
    monkeypatch.delattr("os.memfd_create")
    with rt.load(path, trust=model_kit.trust) as model:
        assert np.array_equal(model.run({"x": X})["y"], 2 * X)


def test_an_engine_that_refuses_gives_way_to_the_next_payload(model_kit, tmp_path):
    model_kit.files["payloads/onnxruntime/broken.onnx"] = b"not a model"
    good, more = model_kit.manifest["payloads"][0], {"files": {"model": "payloads/onnxruntime/broken.onnx"}}
    model_kit.manifest["payloads"] = [
        model_kit.payload(id="broken", **more),
        model_kit.payload(id="strange", options={"turbo": True}),
        model_kit.payload(id="absent", engine="no-such-engine"),
        model_kit.payload(id="future", engine_version=">=99"),
        model_kit.payload(id="vector", isa=["avx1024"], arch=__import__("platform").machine()),
        good,
    ]
    with rt.load(model_kit.write(tmp_path), trust=model_kit.trust) as model:
        assert model.info["payload"] == good["id"]
        why = {item["payload"]: item["why"] for item in model.info["refused"]}
        assert list(why) == ["broken", "strange", "absent", "future", "vector"]
        assert "refuses the model" in why["broken"] and "'turbo'" in why["strange"] and "no adapter" in why["absent"]
        assert ">=99" in why["future"] and "avx1024" in why["vector"]
    with rt.load(tmp_path / "tiny.edge", trust=model_kit.trust, payload=good["id"], threads=2) as model:
        assert model.info["options"]["threads"] == 2
    with pytest.raises(UnsupportedError) as caught:
        rt.load(tmp_path / "tiny.edge", trust=model_kit.trust, payload="broken")
    assert "broken: ONNX Runtime refuses the model" in caught.value.why


def test_a_damaged_payload_is_no_reason_to_take_the_next(model_kit, tmp_path):
    model_kit.files["payloads/onnxruntime/first.onnx"] = b"will be damaged"
    first = model_kit.payload(id="first", files={"model": "payloads/onnxruntime/first.onnx"})
    model_kit.manifest["payloads"].insert(0, first)
    path = model_kit.write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"will be damaged", b"Will be damaged"))
    with pytest.raises(TrustError):
        rt.load(path, trust=model_kit.trust)


def test_a_model_that_is_not_what_the_manifest_says(model_kit, tmp_path):
    model_kit.manifest["inputs"][0]["dtype"] = "int32"
    with pytest.raises(UnsupportedError, match="no payload") as caught:
        rt.load(model_kit.write(tmp_path), trust=model_kit.trust)
    assert "inputs" in caught.value.why


def test_native_code_of_an_untrusted_bundle_is_never_loaded(model_kit, tmp_path, monkeypatch):
    model_kit.keys = []
    model_kit.manifest["payloads"][0]["native_code"] = True
    monkeypatch.setattr(engines, "find", lambda name: pytest.fail("an engine was asked"))
    with pytest.raises(UnsupportedError, match="no payload") as caught:
        rt.load(model_kit.write(tmp_path), trust=model_kit.trust, allow_unsigned=True)
    assert "native code" in caught.value.why


def test_untrusted_but_portable_loads_when_asked(model_kit, tmp_path):
    model_kit.keys = []
    with rt.load(model_kit.write(tmp_path), trust=[], allow_unsigned=True) as model:
        assert model.info["trusted"] is False and np.array_equal(model.run({"x": X})["y"], 2 * X)


def test_a_missing_engine(path, model_kit, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setenv("EDGEC_ONNXRUNTIME_LIBRARY", "/nowhere")
    with pytest.raises(MissingError, match="engine is missing") as caught:
        rt.load(path, trust=model_kit.trust)
    assert "pip install" in caught.value.fix and caught.value.exit_code == 10


@pytest.mark.parametrize(
    "options",
    [{}, {"path": "x", "app": "y"}, {"path": "x", "follow": True}, {"path": "x", "threads": 0},
     {"path": "x", "threads": 1.5}, {"app": "x", "trust": []}, {"app": "x", "allow_unsigned": True}],
)  # fmt: skip
def test_arguments_that_make_no_sense(options):
    with pytest.raises(UsageError) as caught:
        rt.load(**options)
    assert caught.value.exit_code == 2


def test_values_that_the_engine_fails_on(kit, tmp_path):
    """Gather with an index out of range: only the run can know."""
    data = helper.make_tensor("data", TensorProto.FLOAT, [2], [1, 2])
    index = helper.make_tensor_value_info("i", TensorProto.INT64, [1])
    picked = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Gather", ["data", "i"], ["y"])], "g", [index], [picked], [data])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kit.files[MODEL] = made.SerializeToString()
    kit.manifest["inputs"] = [{"name": "i", "dtype": "int64", "shape": [1], "layout": None}]
    kit.manifest["outputs"] = [{"name": "y", "dtype": "float32", "shape": [1], "layout": None}]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert model.run({"i": np.array([1])})["y"] == [2]
        with pytest.raises(BadInputError) as caught:
            model.run({"i": np.array([7])})
        assert caught.value.code == "E912" and isinstance(caught.value, Error)


def test_external_data_of_a_payload(kit, tmp_path):
    weights = np.arange(6, dtype=np.float32)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], weights.tobytes(), raw=True)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:], [tensor])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.external_data_helper.convert_model_to_external_data(made, location="weights.bin", size_threshold=0)
    onnx.save(made, tmp_path / "model.onnx")
    kit.files = {f"p/{name}": (tmp_path / name).read_bytes() for name in ("model.onnx", "weights.bin")}
    kit.manifest["payloads"] = [kit.payload(files={"model": "p/model.onnx", "weights": "p/weights.bin"})]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as model:
        assert np.array_equal(model.run({"x": X})["y"], X + weights.reshape(2, 3))


OUTSIDE = ["{folder}/secret.bin", "secret.bin", "../secret.bin", "0", "../../..{folder}/secret.bin"]


@pytest.mark.parametrize("location", OUTSIDE)
def test_a_model_can_not_read_files_beside_the_bundle(kit, tmp_path, location, monkeypatch):
    (tmp_path / "secret.bin").write_bytes(bytes(24))
    monkeypatch.chdir(tmp_path)
    tensor = TensorProto(name="w", data_type=1, dims=[2, 3], data_location=1)
    for key, value in (("location", location.format(folder=tmp_path)), ("offset", "0"), ("length", "24")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", info[:1], info[1:], [tensor])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    kit.files[MODEL] = made.SerializeToString()
    with pytest.raises(UnsupportedError, match="no payload") as caught:
        rt.load(kit.write(tmp_path), trust=kit.trust)
    assert "External data" in caught.value.why


def test_many_calls_keep_memory_flat(model):
    import gc
    import tracemalloc

    def burst():
        for _ in range(500):
            model.run({"x": X})

    burst()
    gc.collect()
    tracemalloc.start()
    burst()
    first = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        burst()
    grown = tracemalloc.get_traced_memory()[0] - first
    tracemalloc.stop()
    assert grown < 2000, f"{grown} bytes more after 2,000 runs"
