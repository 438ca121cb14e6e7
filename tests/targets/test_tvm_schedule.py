"""What TVM compiles answers as ONNX Runtime does: random convolutions in each tile, layouts, places in memory."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from edgec_targets.emitters.tvm.tiles import Vectors
from tests.targets.tvm_models import checked, convnet, model, random

pytestmark = pytest.mark.skipif(find_spec("tvm") is None, reason="apache-tvm is not installed (the extra tvm)")
NEON, AVX = Vectors(4, 32, by_lane=True), Vectors(8, 16, by_lane=False)


@st.composite
def convolutions(draw):
    groups = draw(st.sampled_from([1, 1, 2, "depthwise"]))
    into = draw(st.sampled_from([1, 3, 4, 8, 12]))
    if groups == "depthwise":
        groups, out = into, into
    elif groups == 2:
        into, out = 2 * into, draw(st.sampled_from([2, 4, 16]))
    else:
        out = draw(st.sampled_from([1, 2, 6, 8, 10, 20, 24]))
    kernel = [draw(st.integers(1, 3)), draw(st.integers(1, 5))]
    dilations = [draw(st.integers(1, 2)) for _ in "hw"]
    size = [draw(st.integers(9, 14)) for _ in "hw"]
    node = helper.make_node(
        "Conv", ["x", "w", "b"], ["y"], name="conv", group=groups, strides=[draw(st.integers(1, 2)) for _ in "hw"],
        dilations=dilations, pads=[draw(st.integers(0, 2)) for _ in range(4)],
    )  # fmt: skip
    nodes = [node, helper.make_node(draw(st.sampled_from(["Relu", "Sigmoid", "Identity"])), ["y"], ["z"])]
    weights = {"w": random(out, into // groups, *kernel), "b": random(out, seed=1)}
    return model(nodes, {"x": [1, into, *size]}, ["z"], weights)


@settings(max_examples=14, deadline=None, derandomize=True)
@given(convolutions(), st.sampled_from([NEON, AVX]), st.integers(0, 3), st.booleans())
def test_random_convolutions_in_random_tiles(given, vectors, pick, parallel):
    _, scheduled, nests = checked(given, vectors, pick=pick, parallel=parallel)
    assert nests and not scheduled.plain, "the convolution was found and its schedule fitted"


N4 = [1, 8, 6, 5]
C8 = random(8, 8, 3, 3)


def conv(source: str, out: str) -> object:
    return helper.make_node("Conv", [source, "w"], [out], pads=[1, 1, 1, 1])


LAYOUTS = {
    "concat and split of channels": (
        [conv("x", "a"), helper.make_node("Concat", ["a", "x"], ["b"], axis=1),
         helper.make_node("Split", ["b", "parts"], ["y", "z"], axis=1)],
        ["y", "z"], {"parts": np.array([5, 11])},
    ),
    "softmax over channels": ([conv("x", "a"), helper.make_node("Softmax", ["a"], ["y"], axis=1)], ["y"], {}),
    "mean over an image, kept": (
        [conv("x", "a"), helper.make_node("ReduceMean", ["a"], ["b"], axes=[2, 3]),
         helper.make_node("Mul", ["a", "b"], ["y"])], ["y"], {},
    ),
    "mean over rows alone, not kept": (
        [conv("x", "a"), helper.make_node("ReduceMean", ["a"], ["y"], axes=[2], keepdims=0)], ["y"], {},
    ),
    "a row of constants": ([conv("x", "a"), helper.make_node("Mul", ["a", "row"], ["y"])], ["y"], {"row": random(5)}),
    "pad, then a pool": (
        [conv("x", "a"), helper.make_node("Pad", ["a", "pads"], ["b"]),
         helper.make_node("MaxPool", ["b"], ["y"], kernel_shape=[2, 2], strides=[2, 1])],
        ["y"], {"pads": np.array([0, 0, 1, 0, 0, 0, 0, 2])},
    ),
    "a pool that does not count its padding": (
        [helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])], ["y"], {},
    ),
    "resize": (
        [conv("x", "a"), helper.make_node("Resize", ["a", "", "scales"], ["y"], mode="nearest",
                                          coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        ["y"], {"scales": np.array([1, 1, 2, 2], np.float32)},
    ),
    "back to ONNX's order and on": (
        [conv("x", "a"), helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
         helper.make_node("Reshape", ["b", "flat"], ["y"]), conv("a", "z")],
        ["y", "z"], {"flat": np.array([1, -1])},
    ),
    "squeeze and excite": (
        [conv("x", "a"), helper.make_node("GlobalAveragePool", ["a"], ["p"]),
         helper.make_node("Conv", ["p", "w1"], ["q"]),
         helper.make_node("HardSigmoid", ["q"], ["r"]), helper.make_node("Mul", ["a", "r"], ["y"])],
        ["y"], {"w1": random(8, 8, 1, 1, seed=5)},
    ),
    "batch normalization, not folded": (
        [conv("x", "a"), helper.make_node("BatchNormalization", ["a", "s", "b", "m", "v"], ["y"])],
        ["y"], {"s": random(8), "b": random(8, seed=1), "m": random(8, seed=2), "v": np.abs(random(8, seed=3))},
    ),
    "an output twice, an input as output": (
        [conv("x", "a"), helper.make_node("Identity", ["a"], ["y"]), helper.make_node("Identity", ["a"], ["z"]),
         helper.make_node("Identity", ["x"], ["same"])],
        ["y", "z", "same"], {},
    ),
    "a transposed convolution": (
        [helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])], ["y"], {},
    ),
    "matrix products": (
        [helper.make_node("MatMul", ["x", "k"], ["a"]), helper.make_node("MatMul", ["a", "q"], ["y"])],
        ["y"], {"k": random(5, 16), "q": random(16, 12, seed=1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name):
    nodes, outputs, weights = LAYOUTS[name]
    checked(model(nodes, {"x": N4}, outputs, {"w": C8, **weights}), NEON)


def test_convolutions_stand_in_nhwc_without_transposes_between():
    made, scheduled, nests = checked(convnet(), AVX)
    assert not any("transpose" in call.kernel for call in made.calls[1:]), [call.kernel for call in made.calls]
    assert sum(nest.depthwise for nest in nests.values()) == 1 and not scheduled.plain


def test_values_that_are_alive_at_once_share_no_memory():
    nodes = [conv("x", "a"), conv("a", "b"), conv("b", "c"), helper.make_node("Add", ["a", "c"], ["d"]), conv("d", "e"),
             helper.make_node("Add", ["b", "e"], ["y"])]  # fmt: skip
    made, _, _ = checked(model(nodes, {"x": N4}, ["y"], {"w": C8}), NEON)
    life: dict[int, list[int]] = {}
    size = {}
    for when, call in enumerate(made.calls):
        for tensor in call.arguments:
            place, offset = made.places[tensor.root]
            if place == "arena":
                life.setdefault(tensor.root, [when, when])[1] = when
                size[tensor.root] = (offset, offset + 4 * int(np.prod(tensor.shape)))
    assert len(life) >= 4 and made.arena < sum(end - start for start, end in size.values())
    for one in life:
        for other in life:
            if one < other and life[one][0] <= life[other][1] and life[other][0] <= life[one][1]:
                assert size[one][1] <= size[other][0] or size[other][1] <= size[one][0]
            assert size[one][0] % 64 == 0 and size[one][1] <= made.arena
