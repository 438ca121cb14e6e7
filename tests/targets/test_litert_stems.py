"""First layers folded: pixels that a stride steps over together as channels, and the same answers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove, stems
from edgec_targets.emitters.litert.conversion import Written, convert
from edgec_targets.emitters.litert.ops.windows import Window

SIZES = st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(0, 6), st.integers(0, 6)


@given(*SIZES)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_folded_axis_has_the_terms_of_the_convolution(
    size: int, kernel: int, stride: int, before: int, after: int
) -> None:
    out = (size + before + after - kernel) // stride + 1
    if out < 1:
        return
    rng = np.random.default_rng(size * 31 + kernel)
    x, w = rng.integers(-9, 9, size), rng.integers(-9, 9, kernel)
    padded = np.pad(x, (before, after))
    want = [int(padded[i * stride : i * stride + kernel] @ w) for i in range(out)]
    window = Window((1, kernel), (1, stride), (1, 1), (0, before), (0, after))
    ways = list(stems._axis(window, 1, size, out))
    assert len(ways) >= 1 + (stride > 1)
    for axis in ways:
        grown = np.pad(x, (axis.lead, max(axis.end, 0)))
        grown = grown[: len(grown) + min(axis.end, 0)]
        blocks = np.pad(grown.reshape(-1, axis.fold), ((axis.before, axis.after), (0, 0)))
        taps = np.zeros(axis.taps * axis.fold, int)
        taps[axis.shift : axis.shift + kernel] = w
        step = stride if axis.fold == 1 else 1
        have = [int(blocks[i : i + axis.taps].reshape(-1) @ taps) for i in range(0, len(blocks) - axis.taps + 1, step)]
        assert have == want


def built(
    dims: tuple[int, ...], filters: tuple[int, ...], *, integers: bool, last: bool = False, **attributes: object
) -> tuple[ort.InferenceSession, ir.Model, dict[str, np.ndarray]]:
    """One Conv with a bias, in float or between Q/DQ; `last`: of an image that is given as N H W C."""
    rng = np.random.default_rng(sum(dims))
    nodes, constants = [], []

    def constant(name: str, data: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(data, name))
        return name

    x = "x"
    given_dims = (dims[0], *dims[2:], dims[1]) if last else dims
    if last:
        back = [0, len(dims) - 1, *range(1, len(dims) - 1)]
        nodes.append(helper.make_node("Transpose", [x], ["moved"], perm=back))
        x = "moved"
    weights = rng.standard_normal(filters).astype(np.float32)
    bias = rng.standard_normal(filters[0]).astype(np.float32)
    if integers:
        scale, zero = constant("xs", np.float32(0.03)), constant("xz", np.uint8(93))
        nodes.append(helper.make_node("QuantizeLinear", [x, scale, zero], ["xq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["xq", scale, zero], ["xd"]))
        steps = np.abs(weights).reshape(filters[0], -1).max(1) / 127
        stored = np.rint(weights / steps.reshape(-1, *[1] * (len(filters) - 1))).astype(np.int8)
        names = [constant("w", stored), constant("ws", steps), constant("wz", np.zeros(filters[0], np.int8))]
        nodes.append(helper.make_node("DequantizeLinear", names, ["wd"], axis=0))
        of_bias = (np.float32(0.03) * steps).astype(np.float32)
        names = [constant("b", np.rint(bias / of_bias).astype(np.int32)), constant("bs", of_bias)]
        nodes.append(helper.make_node("DequantizeLinear", names, ["bd"], axis=0))
        nodes.append(helper.make_node("Conv", ["xd", "wd", "bd"], ["c"], **attributes))
        scale, zero = constant("ys", np.float32(0.11)), constant("yz", np.uint8(128))
        nodes.append(helper.make_node("QuantizeLinear", ["c", scale, zero], ["yq"]))
        nodes.append(helper.make_node("DequantizeLinear", ["yq", scale, zero], ["y"]))
    else:
        names = [x, constant("w", weights), constant("b", bias)]
        nodes.append(helper.make_node("Conv", names, ["y"], **attributes))
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given_dims)]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_empty_tensor_value_info("y")], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, ir.from_proto(proto), {"x": rng.standard_normal(given_dims).astype(np.float32)}


def same(session: ort.InferenceSession, written: Written, feed: dict[str, np.ndarray], integers: bool) -> None:
    assert written.data is not None, written.problems
    have, want = prove.run(written.data, feed)["y"], session.run(None, feed)[0]
    if integers:
        np.testing.assert_array_equal(have, want)
    else:
        np.testing.assert_allclose(have, want, atol=1e-4, rtol=1e-4)


@given(
    st.tuples(st.integers(1, 2), st.integers(1, 4)),
    st.lists(
        st.tuples(st.integers(4, 21), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3)), min_size=1, max_size=2
    ),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_folded_convolutions_answer_as_before(
    image: tuple[int, int], axes: list[tuple[int, int, int, int]], integers: bool, last: bool, dot: bool
) -> None:
    if any(kernel > size + 2 * pad for size, kernel, _, pad in axes):
        return
    sizes, kernels, strides, pads = zip(*axes, strict=True)
    attributes = {"strides": strides, "pads": [*pads, *pads]}
    session, model, feed = built((*image, *sizes), (5, image[1], *kernels), integers=integers, last=last, **attributes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stems, "_GAIN", float("inf"))  # whatever is cheapest, gain or no gain
        same(session, convert(model, dot=dot), feed, integers)
    same(session, convert(model, dot=dot), feed, integers)


FOLDED = {
    "an image of three channels, where there are dot products": ((1, 3, 32, 32), (16, 3, 3, 3), True, True, True),
    "but not where there are none": ((1, 3, 32, 32), (16, 3, 3, 3), True, False, False),
    "a spectrogram": ((1, 1, 49, 10), (64, 1, 10, 4), True, True, True),
    "a wave, in float": ((1, 1, 800), (32, 1, 256), False, False, True),
    "many channels stay": ((1, 16, 32, 32), (16, 16, 3, 3), True, True, False),
}


@pytest.mark.parametrize("case", FOLDED)
def test_what_is_folded(case: str) -> None:
    dims, filters, integers, dot, folded = FOLDED[case]
    axes = len(dims) - 2
    step = 128 if axes == 1 else 2
    session, model, feed = built(dims, filters, integers=integers, strides=[step] * axes, pads=[1] * axes * 2)
    written = convert(model, dot=dot)
    same(session, written, feed, integers)
    assert (written.operators["RESHAPE"] > (axes == 1)) == folded


def test_an_image_given_as_n_h_w_c_is_folded_where_it_lies() -> None:
    session, model, feed = built(
        (1, 3, 64, 64), (32, 3, 7, 7), integers=True, last=True, strides=[2, 2], pads=[3, 3, 3, 3]
    )
    written = convert(model)
    same(session, written, feed, True)
    # one into blocks, one of the result into N C H W
    assert written.transposes == 2 and written.operators["RESHAPE"]
