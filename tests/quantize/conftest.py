"""Small models for the tests of quantization."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.shape_inference import infer_shapes

from edgec.data import Dataset

Build = Callable[..., ir.Model]


@pytest.fixture(scope="session")
def build() -> Build:
    """`build(nodes, {input: shape}, [outputs], {constant: array}, opset=21)`.

    A node is (type, inputs, outputs[, attributes[, name]]).
    """

    def make(
        nodes: Sequence[tuple],
        inputs: dict[str, Sequence],
        outputs: Sequence[str],
        constants: dict[str, np.ndarray],
        *,
        opset: int = 21,
        infer: bool = True,
        types: dict[str, int] | None = None,
    ) -> ir.Model:
        types = types or {}
        graph = helper.make_graph(
            [
                helper.make_node(n[0], n[1], n[2], name=(n[4] if len(n) > 4 else ""), **(n[3] if len(n) > 3 else {}))
                for n in nodes
            ],
            "g",
            [helper.make_tensor_value_info(k, types.get(k, TensorProto.FLOAT), v) for k, v in inputs.items()],
            [helper.make_tensor_value_info(o, types.get(o, TensorProto.FLOAT), inputs.get(o)) for o in outputs],
            [numpy_helper.from_array(v, k) for k, v in constants.items()],
        )
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        proto = infer_shapes(proto, strict_mode=True) if infer else proto
        if infer:
            onnx.checker.check_model(proto)
        return ir.from_proto(proto)

    return make


@pytest.fixture(scope="session")
def feeds() -> Callable[..., Dataset]:
    """`feeds(model, n, shapes={…})`: seeded normal samples for a model's float inputs."""

    def make(
        model: ir.Model, n: int = 8, *, scale: float = 1.0, shapes: dict[str, Sequence[int]] | None = None
    ) -> Dataset:
        rng = np.random.default_rng(7)
        made = []
        for _ in range(n):
            feed = {}
            for value in model.graph.inputs:
                shape = [d if isinstance(d, int) else 1 for d in value.shape]
                shape = (shapes or {}).get(value.name, shape)
                dtype = value.dtype.numpy()
                if dtype == np.float32:
                    feed[value.name] = (rng.standard_normal(shape) * scale).astype(np.float32)
                else:
                    feed[value.name] = rng.integers(0, 2, shape).astype(dtype)
            made.append(feed)
        return Dataset.of(made, model.graph.inputs)

    return make
