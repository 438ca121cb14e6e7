"""Batches by a model of one sample: the option batch = "split"."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import base, choice, litert_capi, litert_package
from edgec_runtime.engines.native import CallError
from edgec_runtime.engines.split import Executable
from edgec_runtime.errors import BadInputError, TrustError, UsageError
from tests.runtime.litert_models import bundle, load, payload, tflite

pytestmark = pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is not installed")
RELU = np.array([[1, -2, 3, -4], [-5, 6, -7, 8], [9, -10, 11, -12]], np.float32)


@pytest.fixture(params=[litert_capi, litert_package], ids=["library", "package"])
def split(request, tmp_path):
    """y = relu(x) of float32[1, 4]."""
    made = Executable(load(tmp_path, adapter=request.param))
    yield made
    made.close()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_batch_is_run_sample_by_sample(split, rows):
    (answer,) = split.run(["y"], {"x": RELU[:rows]})
    assert answer.shape == (rows, 4) and answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.maximum(RELU[:rows], 0))
    (again,) = split.run(["y"], {"x": RELU[:1]})
    np.testing.assert_array_equal(again, np.maximum(RELU[:1], 0))


def test_memoryviews_are_answered_with_memoryviews(tmp_path):
    made = Executable(load(tmp_path))
    view = memoryview(array("f", RELU.reshape(-1).tolist())).cast("B").cast("f", (3, 4))
    (answer,) = made.run(["y"], {"x": view})
    assert type(answer) is memoryview and answer.shape == (3, 4) and not answer.readonly
    assert answer.tolist() == np.maximum(RELU, 0).tolist()
    made.close()


@pytest.mark.parametrize("shape", [(2, 5), (0, 4), (4,), (1, 2, 4)])
def test_sizes_that_are_no_batch_are_the_engines_to_refuse(split, shape):
    with pytest.raises((CallError, ValueError, RuntimeError)):
        split.run(["y"], {"x": np.zeros(shape, np.float32)})
    (answer,) = split.run(["y"], {"x": RELU})  # and nothing is broken by it
    np.testing.assert_array_equal(answer, np.maximum(RELU, 0))


def test_what_has_no_batch_goes_to_every_sample():
    class Scaled(base.Executable):
        inputs = (base.Tensor("x", "float32", (1, 2)), base.Tensor("by", "float32", (3,)))
        outputs = (base.Tensor("y", "float32", (1, 2)),)

        def run(self, names, feeds):
            assert feeds["x"].shape == (1, 2) and feeds["by"].shape == (3,)
            return [feeds["x"] * feeds["by"][1]]

    x, by = np.arange(6, dtype=np.float32).reshape(3, 2), np.array([1, 10, 100], np.float32)
    (answer,) = Executable(Scaled()).run(["y"], {"x": x, "by": by})
    np.testing.assert_array_equal(answer, x * 10)


def test_a_bundle_says_so(kit, tmp_path):
    made = bundle(kit, tflite(), shape=("batch", 4), options={"threads": 1, "batch": "split"})
    with rt.load(made.write(tmp_path), trust=kit.trust) as model:
        assert model.info["options"] == {"threads": 1, "batch": "split"}
        for rows in (1, 1, 3, 1, 1, 2):
            answer = model.run({"x": RELU[:rows]})["y"]
            np.testing.assert_array_equal(answer, np.maximum(RELU[:rows], 0))
            out = np.full((rows, 4), np.nan, np.float32)
            assert model.run({"x": RELU[:rows]}, out={"y": out})["y"] is out
            np.testing.assert_array_equal(out, np.maximum(RELU[:rows], 0))


def test_an_unknown_way_is_refused(tmp_path):
    with pytest.raises(base.RefusedError, match="batch"):
        choice.Choice("litert").load(payload(tmp_path, tflite()), {"batch": "together"})


def onnx_model(op="Relu"):
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, 1, ("batch", 4)) for name in "xy"]
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "one", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def both(kit, tmp_path, name="b"):
    """LiteRT's payload of batch one, then ONNX Runtime's of any: y = relu(x) of float32["batch", 4]."""
    made = bundle(kit, tflite(), shape=("batch", 4), options={"threads": 1, "batch": "one"})
    kit.files["payloads/onnxruntime/model.onnx"] = onnx_model()
    made.manifest["payloads"].append(kit.payload())
    folder = tmp_path / name
    folder.mkdir()
    return made.write(folder)


def test_other_batches_go_to_the_next_payload(kit, tmp_path):
    path = both(kit, tmp_path)
    with rt.load(path, trust=kit.trust) as model:
        assert model.info["engine"] == "litert"
        for rows in (1, 3, 1, 1, 2, 3, 1):
            for feed in ({"x": RELU[:rows]}, {"x": memoryview(RELU[:rows])}):
                np.testing.assert_array_equal(model.run(feed)["y"], np.maximum(RELU[:rows], 0))
            out = np.full((rows, 4), np.nan, np.float32)
            assert model.run({"x": RELU[:rows]}, out={"y": out})["y"] is out
            np.testing.assert_array_equal(out, np.maximum(RELU[:rows], 0))
    with pytest.raises(UsageError, match="closed"):
        model.run({"x": RELU[:2]})


def test_without_another_payload_it_says_so(kit, tmp_path):
    with rt.load(both(kit, tmp_path), trust=kit.trust, engine="litert") as model:
        with pytest.raises(BadInputError, match=r"takes \[1, 4\]"):
            model.run({"x": RELU})
        np.testing.assert_array_equal(model.run({"x": RELU[:1]})["y"], np.maximum(RELU[:1], 0))


def test_a_bundle_that_was_replaced_is_not_mixed(kit, tmp_path):
    path = both(kit, tmp_path)
    with rt.load(path, trust=kit.trust) as model:
        kit.manifest["app"]["version"] = "2.0.0"
        kit.files["payloads/onnxruntime/model.onnx"] = onnx_model("Neg")
        kit.write(path.parent)
        with pytest.raises(TrustError, match="not the one"):
            model.run({"x": RELU})


def test_an_installed_app_does_the_same(kit, tmp_path, monkeypatch):
    from edgec_runtime.slots import install

    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "root"))
    install.install(both(kit, tmp_path), trust=kit.trust)
    with rt.load(app="tiny") as model:
        assert model.info["engine"] == "litert"
        for rows in (1, 3, 1):
            np.testing.assert_array_equal(model.run({"x": RELU[:rows]})["y"], np.maximum(RELU[:rows], 0))
