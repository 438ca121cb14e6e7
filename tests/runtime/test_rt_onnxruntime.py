"""The ONNX Runtime adapter: every dtype that ONNX Runtime takes, its options, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import edgec_runtime as rt
from edgec_runtime import arrays, dtypes
from edgec_runtime.engines import onnxruntime as adapter
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.errors import BadInputError
from edgec_runtime.payload import StoredPayload

MODEL = "payloads/onnxruntime/model.onnx"
ONNX = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9,
    "float16": 10, "float64": 11, "uint32": 12, "uint64": 13, "bfloat16": 16, "float8e4m3fn": 17,
    "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20, "uint4": 21, "int4": 22,
    "float8e8m0": 24, "uint2": 25, "int2": 26,
}  # fmt: skip
SHAPES = [(), (0,), (3,), (2, 0, 3), (2, 3), (1, 1, 5)]


def identity(kit, dtype, shape, opset=21):
    info = [helper.make_tensor_value_info(name, ONNX[dtype], shape) for name in "xy"]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    if dtype.endswith(("int4", "int2", "e8m0")):  # ONNX Runtime has no Identity for these
        nodes = [helper.make_node("Cast", ["x"], ["w"], to=1), helper.make_node("Cast", ["w"], ["y"], to=ONNX[dtype])]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:])
    opset = 25 if ONNX[dtype] > 23 else opset
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset < 25 else 13)
    kit.files[MODEL] = made.SerializeToString()
    tensors = [{"name": name, "dtype": dtype, "shape": list(shape), "layout": None} for name in "xy"]
    kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:1], tensors[1:]
    return kit


def values(dtype, shape):
    n = dtypes.count(shape)
    if dtype == "string":
        return np.array(["", "ä", "three"] * n, dtype=object)[:n].reshape(shape)
    if dtype == "bool":
        return (np.arange(n) % 2 == 1).reshape(shape)
    if dtype == "float8e8m0":
        return (2.0 ** np.arange(n)).reshape(shape).astype(arrays.numpy_type(dtype))
    if dtype.endswith("int2"):
        return (np.arange(n) % 4 - (2 if dtype == "int2" else 0)).reshape(shape).astype(arrays.numpy_type(dtype))
    numbers = np.arange(n) - (2 if not dtype.startswith(("u", "bool")) else 0)
    return numbers.reshape(shape).astype(arrays.numpy_type(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ONNX)
def test_every_dtype_and_shape_comes_back(kit, tmp_path, dtype, shape):
    pytest.importorskip("ml_dtypes")
    x = values(dtype, shape)
    with rt.load(identity(kit, dtype, shape).write(tmp_path), trust=kit.trust) as model:
        for _ in range(2):
            y = model.run({"x": x})["y"]
            assert y.dtype == x.dtype and y.shape == shape
            assert np.array_equal(y, x)
        if dtype not in ("string",):
            out = {"y": np.empty(shape, x.dtype)}
            assert model.run({"x": x}, out=out)["y"] is out["y"] and np.array_equal(out["y"], x)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8e4m3fn", "int4", "uint4"])
def test_without_ml_dtypes_bits_go_in_and_out(kit, tmp_path, dtype, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    low = -8 if dtype == "int4" else 0
    x = np.arange(low, low + 15).reshape(3, 5).astype(arrays.carrier(dtype))
    with rt.load(identity(kit, dtype, (3, 5)).write(tmp_path), trust=kit.trust) as model:
        y = model.run({"x": x})["y"]
        assert y.dtype == x.dtype and np.array_equal(y, x)
        with pytest.raises(BadInputError, match="dtype"):
            model.run({"x": x.astype(np.float32)})


def test_bits_are_taken_beside_ml_dtypes(kit, tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    with rt.load(identity(kit, "bfloat16", (2,)).write(tmp_path), trust=kit.trust) as model:
        assert np.array_equal(model.run({"x": x.view(np.uint16)})["y"], x)


def test_text_as_numpy_makes_it(kit, tmp_path):
    with rt.load(identity(kit, "string", (2,)).write(tmp_path), trust=kit.trust) as model:
        assert list(model.run({"x": np.array(["a", "bcd"])})["y"]) == ["a", "bcd"]
        for wrong in (np.array([1, "a"], dtype=object), np.array([b"a", b"b"]), np.array([1, 2])):
            with pytest.raises(BadInputError):
                model.run({"x": wrong})


def test_a_numpy_scalar_is_rank_0(kit, tmp_path):
    with rt.load(identity(kit, "float32", ()).write(tmp_path), trust=kit.trust) as model:
        assert model.run({"x": np.float32(3)})["y"] == 3
        assert model.run({"x": np.float32(4)})["y"].shape == ()


@pytest.mark.parametrize("bits, dtype", [(4, "int4"), (4, "uint4"), (2, "int2"), (2, "uint2")])
def test_packing(bits, dtype):
    signed = not dtype.startswith("u")
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    for n in range(10):
        x = np.resize(np.arange(low, high), n).astype(arrays.carrier(dtype))
        packed = arrays.pack(x, dtype)
        assert len(packed) == dtypes.nbytes(dtype, n)
        assert np.array_equal(arrays.unpack(packed, dtype, (n,)).astype(np.int8), x.astype(np.int8))
    if bits == 4:  # the first value in the low bits, as ONNX has it
        assert arrays.pack(np.array([1, 2, 3], arrays.carrier(dtype)), dtype) == b"\x21\x03"


def session_options(options):
    return adapter._settings(options)


def test_options_become_session_options():
    import onnxruntime

    made = session_options({"threads": 3, "spinning": False, "arena": False, "optimization": "basic"})
    assert made.intra_op_num_threads == 3 and made.enable_cpu_mem_arena is False
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert made.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    plain, default = session_options({"threads": None, "spinning": None, "arena": None}), onnxruntime.SessionOptions()
    for name in ("intra_op_num_threads", "enable_cpu_mem_arena", "graph_optimization_level"):
        assert getattr(plain, name) == getattr(default, name)
    with pytest.raises(RuntimeError):
        plain.get_session_config_entry("session.intra_op.allow_spinning")


NONSENSE = [{"threads": "many"}, {"threads": -1}, {"threads": True}, {"optimization": "max"}, {"x": 1}]


@pytest.mark.parametrize("options", NONSENSE)
def test_options_that_make_no_sense(options):
    with pytest.raises(RefusedError):
        session_options(options)


@pytest.mark.parametrize("content", [b"", b"\0", b"not a model", b"\x08\x0a" * 100])
def test_what_is_no_model(kit, tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    payload = StoredPayload(kit.payload(), {"model": str(tmp_path / "m.onnx")})
    with pytest.raises(RefusedError, match="refuses"):
        adapter.Engine().load(payload, {})


def test_sequences_are_refused_with_the_reason(kit, tmp_path):
    info = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [])
    graph = helper.make_graph([helper.make_node("SequenceLength", ["s"], ["y"])], "g", [info], [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    payload = StoredPayload(kit.payload(), {"model": str(tmp_path / "m.onnx")})
    with pytest.raises(RefusedError) as caught:
        adapter.Engine().load(payload, {})
    assert "seq(tensor(float))" in str(caught.value)


def test_engines_of_third_parties_are_found(monkeypatch):
    from importlib import metadata

    from edgec_runtime import engines

    class Point:
        name = "theirs"

        @staticmethod
        def load():
            return lambda: "their engine"

    monkeypatch.setattr(metadata, "entry_points", lambda: {engines.GROUP: [Point]})  # as in Python 3.9
    assert engines.find("theirs") == "their engine" and engines.find("nobodys") is None
    assert engines.names() == ["litert", "ncnn", "onnxruntime", "theirs", "tvm"]
