"""Each operator by a model of one node: LiteRT's answer beside ONNX Runtime's, or the reference's where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert
from edgec_targets.emitters.litert.registry import find


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape) + len(shape)).standard_normal(shape).astype(np.float32)


class Fed:
    """An array that is a graph input; a plain array is a constant."""

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)


def x(*shape: int) -> Fed:
    return Fed(normal(*shape))


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def model(
    op: str, *inputs: Fed | np.ndarray | None, opset: int = 21, outputs: int = 1, domain: str = "", **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    names, values, constants, feeds = [], [], [], {}
    for n, value in enumerate(inputs):
        name = "" if value is None else f"i{n}"
        names.append(name)
        if isinstance(value, Fed):
            kind = helper.np_dtype_to_tensor_dtype(value.array.dtype)
            values.append(helper.make_tensor_value_info(name, kind, value.array.shape))
            feeds[name] = value.array
        elif value is not None:
            constants.append(numpy_helper.from_array(np.asarray(value), name))
    outs = [f"o{n}" for n in range(outputs)]
    node = helper.make_node(op, names, outs, name="the_node", domain=domain, **attributes)
    results = [helper.make_empty_tensor_value_info(o) for o in outs]
    graph = helper.make_graph([node], "one", values, results, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made, data_prop=True), feeds


def expected(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    try:
        session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:
        from onnx.reference import ReferenceEvaluator

        return list(ReferenceEvaluator(proto).run(None, feeds))
    return list(session.run(None, feeds))


def check(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray], *, atol: float = 2e-5, rtol: float = 2e-5
) -> dict[str, int]:
    written = convert(ir.from_proto(proto))
    assert written.data is not None, written.problems
    got = prove.run(written.data, feeds)
    for value, want in zip(proto.graph.output, expected(proto, feeds), strict=True):
        have = got[value.name]
        assert have.dtype == want.dtype and have.shape == want.shape
        np.testing.assert_allclose(have, want, atol=atol, rtol=rtol)
    return dict(written.operators)


# fmt: off
UNARY = ["Abs", "Ceil", "Cos", "Exp", "Floor", "HardSwish", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Tanh",
         "Erf",
         "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "HardSigmoid", "LeakyRelu",
         "ThresholdedRelu", "Gelu",
         "Softmax", "LogSoftmax", "Identity", "GlobalAveragePool", "GlobalMaxPool", "IsNaN", "Reciprocal"]
# fmt: on


@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 7)], ids=str)
def test_one_input(op: str, shape: tuple[int, ...]) -> None:
    if op.startswith("Global") and len(shape) < 3:
        shape = (2, 3, 6)
    check(*model(op, x(*shape)))


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_one_positive_input(op: str) -> None:
    check(*model(op, Fed(np.abs(normal(2, 9)) + 0.1)))


def test_erf_near_zero_and_far() -> None:
    values = np.concatenate([[0.0, -0.0], np.logspace(-9, 1, 400), -np.logspace(-9, 1, 400)]).astype(np.float32)
    check(*model("Erf", Fed(values)), atol=3e-7)


BINARY = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Max",
    "Min",
    "Sum",
    "Mean",
    "Equal",
    "Greater",
    "Less",
    "GreaterOrEqual",
    "LessOrEqual",
    "PRelu",
]
SHAPES = [
    ((2, 3, 4, 5), (2, 3, 4, 5)),
    ((2, 3, 4, 5), (3, 1, 1)),
    ((1, 3, 4, 5), (5,)),
    ((3, 4), ()),
    ((2, 1, 4), (2, 3, 1)),
]


@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("constant", [False, True])
def test_two_inputs(op: str, shapes: tuple[tuple[int, ...], ...], constant: bool) -> None:
    if op == "PRelu" and shapes[1] == (2, 3, 1):
        pytest.skip("the slope of PRelu is broadcast one way only")
    b = normal(*shapes[1]) + np.float32(3.0)
    check(*model(op, x(*shapes[0]), b if constant else Fed(b)))


@settings(max_examples=25)
@given(st.lists(st.sampled_from([1, 2, 3]), min_size=0, max_size=5), st.data())
def test_broadcasting(dims: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, len(dims)))
    other = [data.draw(st.sampled_from([1, d])) for d in dims[len(dims) - kept :]]
    check(*model("Add", x(*dims), x(*other)))
    check(*model("Sub", x(*other), x(*dims)))


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


REDUCTIONS = ["Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp", "LogSum"]


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize(("axes", "keep"), [([1], 1), ([2, 3], 0), ([-1], 1), (None, 0), ([0, 2], 1)])
def test_reductions(op: str, axes: Any, keep: int) -> None:
    data = Fed(np.abs(normal(2, 3, 4, 5)) + 0.5) if op == "LogSum" else x(2, 3, 4, 5)
    check(*model(f"Reduce{op}", data, None if axes is None else i64(*axes), keepdims=keep), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_reductions_of_booleans(op: str) -> None:
    check(*model(op, Fed(normal(3, 4) > 0), i64(1)))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_along_any_axis(op: str, axis: int) -> None:
    check(*model(op, x(2, 3, 4, 5), axis=axis))


SHAPING: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("Reshape", [x(2, 3, 4), i64(4, -1)], {}),
    ("Reshape", [x(2, 3, 4), i64(0, -1)], {}),
    ("Flatten", [x(2, 3, 4, 5)], {"axis": 2}),
    ("Squeeze", [x(1, 3, 1, 5), i64(0, 2)], {}),
    ("Unsqueeze", [x(3, 5), i64(0, 3)], {}),
    ("Transpose", [x(2, 3, 4, 5)], {"perm": [0, 2, 3, 1]}),
    ("Transpose", [x(2, 3, 4)], {}),
    ("Transpose", [x(2, 1, 3, 2, 2, 3)], {"perm": [0, 5, 2, 4, 1, 3]}),
    ("Slice", [x(4, 6, 5), i64(1, 0), i64(4, 5), i64(0, 2)], {}),
    ("Slice", [x(4, 6, 5), i64(-1, 5), i64(-100, 0), i64(0, 1), i64(-1, -2)], {}),
    ("Slice", [x(4, 6), i64(0), i64(100), i64(1), i64(2)], {}),
    ("Expand", [x(1, 3, 1), i64(2, 3, 4)], {}),
    ("Expand", [x(3, 1), i64(2, 1, 4)], {}),
    ("Tile", [x(2, 3), i64(2, 3)], {}),
    ("Pad", [x(2, 3, 4), i64(0, 1, 2, 0, 0, 1)], {}),
    ("Pad", [x(2, 3, 4), i64(0, 1, 2, 0, 0, 1), np.float32(2.5)], {}),
    ("Pad", [x(2, 5, 6), i64(0, 1, 2, 0, 3, 1)], {"mode": "reflect"}),
    ("Pad", [x(2, 5, 6), i64(0, 1, 2, 0, 3, 1)], {"mode": "edge"}),
    ("Pad", [x(2, 5, 6), i64(0, -1, 2, 0, 0, -2)], {}),
    ("DepthToSpace", [x(1, 8, 2, 3)], {"blocksize": 2}),
    ("DepthToSpace", [x(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    ("SpaceToDepth", [x(1, 2, 4, 6)], {"blocksize": 2}),
    ("Gather", [x(5, 3, 4), i64(0, -1, 2)], {"axis": 0}),
    ("Gather", [x(2, 5, 3, 4), i64(4, 1)], {"axis": 1}),
    ("Gather", [x(5, 3), np.int64(-2)], {"axis": 0}),
    ("Gather", [normal(7, 3), Fed(i64(6, 0, -1))], {"axis": 0}),
    ("Gather", [x(5, 3), Fed(np.array([[0, 1], [-5, 4]], np.int32))], {"axis": 0}),
    ("GatherElements", [x(3, 4), np.array([[0, -1], [2, 1]], np.int64)], {"axis": 1}),
    ("GatherElements", [x(3, 4), Fed(np.array([[0, -1], [2, 1]], np.int64))], {"axis": 0}),
    ("GatherND", [x(3, 4, 2), np.array([[0, -1], [2, 1]], np.int64)], {}),
    ("GatherND", [x(2, 4, 2), np.array([[1], [-1]], np.int64)], {"batch_dims": 1}),
    ("GatherND", [x(3, 4, 2), Fed(np.array([[0, -1], [2, 1]], np.int64))], {}),
    ("ScatterND", [x(4, 3), np.array([[1], [-1]], np.int64), x(2, 3)], {}),
    ("CumSum", [x(3, 4), np.int64(1)], {}),
    ("CumSum", [x(3, 4), np.int64(-2)], {"reverse": 1, "exclusive": 1}),
    ("ArgMax", [x(3, 4, 2)], {"axis": 1}),
    ("ArgMin", [x(3, 4)], {"axis": -1, "keepdims": 0}),
    ("ArgMax", [Fed(np.array([[1, 3, 3, 2]], np.float32))], {"axis": 1, "select_last_index": 1}),
    ("OneHot", [Fed(i64(0, 2, -1, 9)), np.int64(4), np.array([0.5, 2.0], np.float32)], {}),
    ("Trilu", [x(2, 4, 5)], {}),
    ("Trilu", [x(4, 5), np.int64(-1)], {"upper": 0}),
    ("Where", [Fed(normal(3, 4) > 0), x(3, 4), x(4)], {}),
    ("And", [Fed(normal(3) > 0), Fed(normal(1, 3) > 1)], {}),
    ("Or", [Fed(normal(3) > 0), Fed(normal(2, 3) > 1)], {}),
    ("Xor", [Fed(normal(3) > 0), Fed(normal(2, 3) > 0)], {}),
    ("Not", [Fed(normal(3) > 0)], {}),
    ("Cast", [x(3, 4)], {"to": onnx.TensorProto.INT64}),
    ("Cast", [Fed(i64(0, 2, -3))], {"to": onnx.TensorProto.BOOL}),
    ("Cast", [Fed(normal(5) > 0)], {"to": onnx.TensorProto.FLOAT}),
    ("Clip", [x(3, 4), np.float32(-0.3), np.float32(0.7)], {}),
    ("Clip", [x(3, 4), None, np.float32(0.7)], {}),
    ("Clip", [x(3, 4), np.float32(0), np.float32(6)], {}),
    ("Clip", [x(3, 4), Fed(np.float32(-0.5)), Fed(np.float32(0.5))], {}),
    ("Mod", [Fed(i64(5, -5, 4)), i64(3, 3, -3)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), np.float32(2)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), np.float32(0.5)], {}),
    ("Pow", [x(3, 4), np.float32(3)], {}),
    ("Pow", [Fed(np.abs(normal(3, 4))), x(4)], {}),
    ("BatchNormalization", [x(2, 3, 4, 5), normal(3), normal(3), normal(3), np.abs(normal(3)) + 0.1], {}),
    ("InstanceNormalization", [x(2, 3, 4, 5), normal(3), normal(3)], {}),
    ("GroupNormalization", [x(2, 6, 4, 5), normal(6), normal(6)], {"num_groups": 3}),
    ("LayerNormalization", [x(2, 3, 8), normal(8), normal(8)], {}),
    ("LayerNormalization", [x(2, 3, 8), normal(3, 8)], {"axis": 1}),
    ("LRN", [x(1, 7, 3, 4)], {"size": 5, "alpha": 0.02, "beta": 0.6, "bias": 1.5}),
    ("LpNormalization", [x(3, 4)], {"axis": 1}),
    ("LpNormalization", [x(3, 4)], {"axis": 0, "p": 1}),
    ("MeanVarianceNormalization", [x(2, 3, 4, 5)], {}),
    ("Dropout", [x(3, 4)], {}),
    ("Tan", [x(3, 4)], {}),
    ("IsInf", [Fed(np.array([np.inf, -np.inf, 1], np.float32))], {}),
    ("IsInf", [Fed(np.array([np.inf, -np.inf, 1], np.float32))], {"detect_negative": 0}),
    ("Einsum", [x(2, 3, 4, 5), x(2, 3, 6, 5)], {"equation": "bhid,bhjd->bhij"}),
    ("Einsum", [x(2, 3, 4), x(4, 5)], {"equation": "bik,kj->bji"}),
    ("Einsum", [x(3, 4), x(5)], {"equation": "ij,k->kij"}),
    ("Einsum", [x(3, 4, 5)], {"equation": "ijk->ki"}),
    ("Einsum", [x(3, 4), x(4, 2)], {"equation": "ij,jk"}),
    ("MaxPool", [x(1, 3, 9)], {"kernel_shape": [3], "strides": [2]}),
    ("AveragePool", [x(1, 3, 6, 6)], {"kernel_shape": [6, 6]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attributes"), SHAPING)
def test_other_operators(op: str, inputs: list[Any], attributes: dict[str, Any]) -> None:
    check(*model(op, *inputs, **attributes))


def test_split_and_top_k_and_concat() -> None:
    check(*model("Split", x(2, 7, 3), i64(2, 5), outputs=2, axis=1))
    check(*model("Split", x(2, 7), outputs=3, axis=1, num_outputs=3))
    check(*model("TopK", x(3, 9), i64(4), outputs=2))
    check(*model("TopK", x(3, 9), i64(2), outputs=2, axis=0, largest=0))
    check(*model("Concat", x(1, 3, 2, 2), normal(1, 2, 2, 2), x(1, 1, 2, 2), axis=1))


RESIZES: list[dict[str, Any]] = [
    {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    {"mode": "nearest"},
    {"mode": "nearest", "coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"},
    {"mode": "linear"},
    {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
    {"mode": "cubic", "cubic_coeff_a": -0.5},
    {"mode": "cubic", "exclude_outside": 1},
]


@pytest.mark.parametrize("attributes", RESIZES, ids=lambda a: "-".join(map(str, a.values())))
@pytest.mark.parametrize("size", [(1, 2, 8, 10), (1, 2, 7, 5), (1, 2, 2, 3)], ids=str)
def test_resize(attributes: dict[str, Any], size: tuple[int, ...]) -> None:
    check(*model("Resize", x(1, 2, 4, 5), None, None, i64(*size), **attributes))


@pytest.mark.parametrize("scale", [2.0, 1.5, 0.6])
def test_resize_by_scales(scale: float) -> None:
    scales = np.array([1, 1, scale, scale], np.float32)
    check(*model("Resize", x(1, 2, 5, 5), None, scales, mode="linear"))
    check(*model("Resize", x(1, 2, 5, 5), None, scales, mode="nearest", coordinate_transformation_mode="asymmetric"))


def test_a_plain_upscaling_is_one_operator() -> None:
    made = check(*model("Resize", x(1, 2, 4, 5), None, None, i64(1, 2, 8, 10), mode="linear"))
    assert made["RESIZE_BILINEAR"] == 1 and "GATHER" not in made


RECURRENT = [
    ("LSTM", 4, 3, {}), ("LSTM", 4, 3, {"direction": "reverse"}), ("LSTM", 4, 3, {"direction": "bidirectional"}),
    ("GRU", 3, 2, {}), ("GRU", 3, 2, {"linear_before_reset": 1}), ("GRU", 3, 2, {"direction": "bidirectional"}),
    ("RNN", 1, 2, {}), ("RNN", 1, 2, {"activations": ["Relu"]}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "gates", "outputs", "attributes"), RECURRENT)
@pytest.mark.parametrize("state", [False, True])
def test_recurrent(op: str, gates: int, outputs: int, attributes: dict[str, Any], state: bool) -> None:
    steps, batch, width, units = 5, 2, 3, 4
    count = 2 if attributes.get("direction") == "bidirectional" else 1
    weights = [
        normal(count, gates * units, width),
        normal(count, gates * units, units),
        normal(count, 2 * gates * units),
    ]
    states = [x(count, batch, units)] * (2 if op == "LSTM" else 1) if state else []
    inputs = [x(steps, batch, width), *weights, None, *states]
    check(*model(op, *inputs, outputs=outputs, hidden_size=units, **attributes), atol=1e-5)


def test_integers_of_64_bits() -> None:
    for op in ("Add", "Sub", "Mul", "Max"):
        check(*model(op, Fed(i64(1, -2, 3)), Fed(i64(5, 6, -7))))


def test_a_normalizations_mean_and_factor() -> None:
    check(*model("LayerNormalization", x(2, 3, 8), normal(8), normal(8), outputs=3))


def test_a_slope_for_each_channel_as_opset_6_had_it() -> None:
    check(*model("PRelu", x(2, 3, 4, 5), normal(3), opset=6))


def test_a_chain_of_selections_keeps_types() -> None:
    check(*model("Equal", Fed(np.array([1, 2, 3], np.int8)), Fed(np.array([1, 5, 3], np.int8))))


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


# The operators that real models use: vision, speech and text, float and quantized.
REAL = [
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "DynamicQuantizeLinear",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "Identity",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "MatMulInteger",
    "Max",
    "MaxPool",
    "Mul",
    "Pad",
    "Pow",
    "QuantizeLinear",
    "Range",
    "Reciprocal",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
]
ELSEWHERE = {"Constant", "ConstantOfShape", "Range", "Shape"}, {"DynamicQuantizeLinear", "MatMulInteger"}
"""Computed when the file is written; rewritten before."""


@pytest.mark.parametrize("op", REAL)
def test_operators_of_real_models_have_a_writer(op: str) -> None:
    writer = find(ir.Node("", op, []))
    assert (writer is None) == any(op in some for some in ELSEWHERE)


REFUSED: list[tuple[str, Sequence[Any], dict[str, Any], str]] = [
    ("Conv", [x(1, 2, 4, 4, 4), normal(3, 2, 2, 2, 2)], {}, "3 spatial axes"),
    ("MaxPool", [x(1, 2, 8, 8)], {"kernel_shape": [2, 2], "dilations": [2, 2]}, "dilations"),
    ("GridSample", [x(1, 1, 4, 4), x(1, 2, 2, 2)], {}, "no such operator"),
    ("Mod", [x(3), x(3)], {"fmod": 1}, "sign of the dividend"),
    ("Add", [Fed(np.ones(3, np.int8)), Fed(np.ones(3, np.int8))], {}, "no scale"),
    ("LRN", [x(1, 7, 3, 4)], {"size": 4}, "odd size"),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "why"), REFUSED)
def test_what_cannot_be_expressed_is_refused_by_name(
    op: str, inputs: Any, attributes: dict[str, Any], why: str
) -> None:
    proto, _ = model(op, *inputs, **attributes)
    written = convert(ir.from_proto(proto))
    (problem,) = written.problems
    assert written.data is None and problem.node == "the_node" and problem.operator == op
    assert why in problem.why and problem.fix
