"""Models of one node, and LiteRT's answer held to ONNX Runtime's, or to the reference's where it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import convert


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
