"""LiteRT called by its C library and by its Python package: same answers, every plain type, bad files refused."""

from __future__ import annotations

import os
from array import array

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import litert_capi, litert_package, native
from edgec_runtime.engines.base import RefusedError
from edgec_runtime.errors import BadInputError, UsageError
from tests.runtime.litert_models import RELU, TYPES, X, bundle, load, tflite

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
NUMBERS = [name for name in TYPES if name not in ("string", "float16", "float64", "uint64")]


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
