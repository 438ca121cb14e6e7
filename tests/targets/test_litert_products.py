"""Convolutions, pools and matrix products by models of one node: LiteRT's answer beside ONNX Runtime's."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

pytest.importorskip("ai_edge_litert")

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert
from tests.targets.one_node import check, expected, model, normal, x

CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 8, 9), (4, 3, 3, 3), {}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
    ((1, 3, 8, 9), (4, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((1, 3, 8, 9), (4, 3, 2, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    ((1, 3, 8, 9), (4, 3, 2, 4), {"auto_pad": "SAME_LOWER"}),
    ((2, 3, 9, 9), (4, 3, 3, 3), {"pads": [2, 2, 2, 2], "dilations": [2, 2]}),
    ((1, 6, 7, 7), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1]}),
    ((1, 6, 7, 7), (12, 1, 3, 3), {"group": 6, "strides": [2, 2]}),
    ((1, 6, 7, 7), (9, 2, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}),
    ((1, 4, 10), (5, 4, 3), {"pads": [1, 1]}),
    ((1, 4, 10), (4, 1, 5), {"group": 4, "strides": [2], "pads": [2, 0]}),
    ((1, 1, 5, 5), (3, 1, 1, 1), {}),
]


@pytest.mark.parametrize(("shape", "filters", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_conv(shape: tuple[int, ...], filters: tuple[int, ...], attributes: dict[str, Any], bias: bool) -> None:
    made = model("Conv", x(*shape), normal(*filters), normal(filters[0]) if bias else None, **attributes)
    check(*made)


def test_conv_with_computed_weights() -> None:
    check(*model("Conv", x(1, 3, 6, 6), x(4, 3, 3, 3)))


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    group=st.sampled_from([1, 2, 4]),
    op=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    ceil=st.booleans(),
    include=st.booleans(),
)
def test_windows(
    size: Any, kernel: Any, strides: Any, pads: Any, group: int, op: str, ceil: bool, include: bool
) -> None:
    common = {"strides": strides, "pads": pads}
    if op == "Conv":
        check(*model("Conv", x(1, 4, *size), normal(8, 4 // group, *kernel), normal(8), group=group, **common))
        return
    if any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
        return
    extra = {"count_include_pad": int(include)} if op == "AveragePool" else {}
    made = model(op, x(1, 4, *size), kernel_shape=kernel, ceil_mode=int(ceil), **common, **extra)
    beyond = [
        -(-(n + a + b - k) // s) * s >= n + a
        for n, k, s, a, b in zip(size, kernel, strides, pads[:2], pads[2:], strict=True)
    ]
    if ceil and any(beyond):
        (problem,) = convert(ir.from_proto(made[0])).problems
        assert "begins beyond" in problem.why
    else:
        check(*made)


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    dilation=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    extra=st.integers(0, 1),
    bias=st.booleans(),
)
def test_conv_transpose(
    size: Any, kernel: Any, strides: Any, pads: Any, dilation: int, group: int, extra: int, bias: bool
) -> None:
    spans = [(n - 1) * s + (k - 1) * dilation + 1 for n, s, k in zip(size, strides, kernel, strict=True)]
    if any(span <= pads[n] + pads[n + 2] for n, span in enumerate(spans)):
        return
    grown = [extra if extra < s else 0 for s in strides]
    attributes = {
        "strides": strides,
        "pads": pads,
        "dilations": [dilation] * 2,
        "group": group,
        "output_padding": grown,
    }
    check(
        *model(
            "ConvTranspose", x(1, 4, *size), normal(4, 3, *kernel), normal(3 * group) if bias else None, **attributes
        )
    )


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_transpose_auto_pad(auto_pad: str) -> None:
    check(*model("ConvTranspose", x(1, 2, 4, 5), normal(2, 3, 3, 3), auto_pad=auto_pad, strides=[2, 2]))


def test_conv_transpose_of_one_axis() -> None:
    check(*model("ConvTranspose", x(1, 2, 5), normal(2, 3, 4), normal(3), strides=[2], pads=[1, 1]))


GEMMS = [
    (x(2, 3), normal(3, 4), normal(4), {}),
    (x(2, 3), normal(4, 3), normal(4), {"transB": 1}),
    (x(3, 2), normal(3, 4), normal(1), {"transA": 1}),
    (x(2, 3), normal(3, 4), normal(2, 4), {"alpha": 0.5, "beta": 2.0}),
    (x(2, 3), x(3, 4), None, {}),
    (x(2, 3), x(4, 3), x(4), {"transB": 1}),
    (x(2, 3), normal(3, 4), normal(2, 1), {}),
]


@pytest.mark.parametrize(("a", "b", "c", "attributes"), GEMMS)
def test_gemm(a: Any, b: Any, c: Any, attributes: dict[str, Any]) -> None:
    check(*model("Gemm", a, b, c, **attributes))


MATMULS = [
    (x(2, 3), normal(3, 4)), (x(5, 2, 3), normal(3, 4)), (x(2, 5, 2, 3), normal(3, 4)), (x(2, 3), x(3, 4)),
    (x(5, 2, 3), x(5, 3, 4)), (x(2, 5, 2, 3), x(5, 3, 4)), (x(5, 2, 3), x(3, 4)), (x(3), normal(3, 4)),
    (x(2, 3), normal(3)), (x(3), x(3)), (x(4, 2, 3), x(3)), (normal(2, 3), x(3, 4)), (x(2, 3), normal(5, 3, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b"), MATMULS)
def test_matmul(a: Any, b: Any) -> None:
    check(*model("MatMul", a, b))


def test_a_dynamically_quantized_product() -> None:
    """Not ONNX Runtime's rounding, but nearer to the float product than its is far from it."""
    w = np.random.default_rng(0).integers(-127, 128, (64, 16), dtype=np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, 5, d]) for n, d in (("x", 64), ("y", 16))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(w, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    given = normal(1, 5, 64)
    written = convert(ir.from_proto(proto))
    assert written.data is not None and written.notes and len(written.data) < 64 * 16 * 4
    true, got = given @ w.astype(np.float32), prove.run(written.data, {"x": given})["y"]
    theirs = expected(proto, {"x": given})[0]
    assert np.linalg.norm(got - true) <= np.linalg.norm(theirs - true)
