"""`apply` runs one pass on a small model written as ONNX text, and holds it to the model's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgec import passes
from edgec.passes.check import difference


@dataclass(frozen=True)
class Result:
    """What a pass made of a model."""

    model: ir.Model
    applied: passes.Applied

    @property
    def ops(self) -> dict[str, int]:
        return passes.counts(self.model)

    @property
    def fired(self) -> dict[str, int]:
        return {f.rule: f.count for f in self.applied.fired}

    @property
    def why(self) -> str:
        return " ".join(r.why for r in self.applied.refused)

    def node(self, op_type: str) -> ir.Node:
        (node,) = (n for n in self.model.graph if n.op_type == op_type)
        return node


def random_inputs(model: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded inputs of the declared types; a free dimension is 2."""
    rng = np.random.default_rng(seed)
    given = {i.name for i in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value if d.HasField("dim_value") else 2 for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        data = np.asarray(rng.standard_normal(shape) * 4)
        feeds[value.name] = np.asarray(data > 0 if dtype.kind == "b" else data, dtype=dtype)
    return feeds


def run_engine(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[Any]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def parse(
    text: str, weights: Mapping[str, Any] | None = None, opset: int = 21, ir_version: int = 10
) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>\n{text}')
    for name, data in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(data), name))
    return model


@pytest.fixture
def apply() -> Callable[..., Result]:
    def apply(
        text: str | onnx.ModelProto,
        *names: str,
        weights: Mapping[str, Any] | None = None,
        feeds: Mapping[str, Any] | None = None,
        opset: int = 21,
        ir_version: int = 10,
    ) -> Result:
        """Applies `names` (the last one's report is returned) and asserts that nothing moved."""
        proto = parse(text, weights, opset, ir_version) if isinstance(text, str) else text
        onnx.checker.check_model(proto, full_check=True)
        inputs = random_inputs(proto) if feeds is None else feeds
        expected = run_engine(proto, inputs)
        model = ir.from_proto(proto)
        applied = passes.run(model, list(names))
        after = ir.to_proto(model)
        onnx.checker.check_model(after, full_check=True)
        assert [i.name for i in after.graph.input] == [i.name for i in proto.graph.input]
        assert [o.name for o in after.graph.output] == [o.name for o in proto.graph.output]
        for a, b in zip(expected, run_engine(after, inputs), strict=True):
            assert difference(a, b, 1e-5) == ""
        return Result(model, applied[-1])

    return apply
