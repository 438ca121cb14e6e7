"""Streams of a model that follows its app: what a version keeps as its state never reaches another one."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgec_runtime as rt
from edgec_runtime.errors import UsageError
from tests.runtime.test_rt_follow import installing, tensor, until

__all__ = ["installing"]


def sums(number):
    """y = s2 = s + number · x: what a stream of it answers is the sum of all that it got, times the number."""
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, (2,)) for name in ("x", "s", "y", "s2")}
    nodes = [
        helper.make_node("Mul", ["x", "n"], ["part"]),
        helper.make_node("Add", ["part", "s"], ["y"]),
        helper.make_node("Identity", ["y"], ["s2"]),
    ]
    by = numpy_helper.from_array(np.array(number, np.float32), "n")
    graph = helper.make_graph(nodes, "g", [tensors["x"], tensors["s"]], [tensors["y"], tensors["s2"]], [by])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def put(request):
    """put(3) installs version 3.0, which sums 3 · x."""
    install = request.getfixturevalue("installing")

    def make(number):
        inputs, outputs = ([*tensor(a, (2,)), *tensor(b, (2,))] for a, b in ("xs", ("y", "s2")))
        install(number, data=sums(number), inputs=inputs, outputs=outputs)

    return make


ONE = np.ones(2, np.float32)


def test_a_stream_stays_with_its_version_until_it_is_reset(put):
    put(1)
    with rt.load(app="tiny", follow=True) as model:
        stream = model.stream({"s2": "s"})
        total = 0
        put(10)
        while not stream.outdated:  # runs of the stream alone are enough for the model to notice
            total += 1
            assert stream.run({"x": ONE})["y"][0] == total
        until(lambda: model.info["app"]["version"] == "10.0")
        assert stream.run({"x": ONE})["y"][0] == total + 1 and stream.info["app"]["version"] == "1.0"
        with model.stream({"s2": "s"}) as other:
            assert [other.run({"x": ONE})["y"][0] for _ in range(2)] == [10, 20]
        stream.reset()
        assert not stream.outdated and stream.info["app"]["version"] == "10.0"
        assert [stream.run({"x": ONE})["y"][0] for _ in range(2)] == [10, 20]
        stream.reset({"s": 5 * ONE})
        assert stream.run({"x": ONE})["y"][0] == 15
        with pytest.raises(UsageError, match="no input of the state"):
            stream.reset({"y": ONE})
        assert stream.run({"x": ONE})["y"][0] == 25


def test_a_closed_model_closes_the_streams_of_its_old_versions(put):
    put(1)
    model = rt.load(app="tiny", follow=True)
    stream = model.stream({"s2": "s"})
    put(2)
    until(lambda: stream.run({"x": ONE}) and stream.outdated)
    model.close()
    with pytest.raises(UsageError, match="closed"):
        stream.run({"x": ONE})
