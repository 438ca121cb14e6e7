"""A small model for the tests of the search: three layers are easy in eight bits, one value between two is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgec.data import Budget, Dataset, Evaluation
from edgec.executors import Inline, Workers
from edgec.quantize.search import Found, Store, search

SHAPE = (1, 8, 6, 6)


@dataclass(frozen=True)
class Case:
    """A float model, what calibrates it, and a metric whose labels are the float model's own answers."""

    model: ir.Model
    data: Dataset
    evaluation: Evaluation
    inputs: list[np.ndarray]


def small_case(*, samples: int = 12, evaluated: int = 120, outlier: float = 300.0, branch: bool = True) -> Case:
    """conv0 → conv1 → conv2 → conv3 → pool → classes, and with `branch` also conv1 → pool → classes, added.

    One channel behind conv1 is `outlier` times larger than it was, and conv2 divides it again: the float model is the
    same, but eight bits have work with it.
    """
    rng = np.random.default_rng(11)
    weights: dict[str, np.ndarray] = {}
    nodes, last = [], "x"
    for i in range(4):
        w = rng.normal(0, 0.3, (16, 8 if i == 0 else 16, 3, 3)).astype(np.float32)
        b = rng.normal(0, 0.1, 16).astype(np.float32)
        if i == 1:
            w[0] *= outlier
            b[0] *= outlier
        if i == 2:
            w[:, 0] /= outlier
        weights |= {f"w{i}": w, f"b{i}": b}
        nodes.append(helper.make_node("Conv", [last, f"w{i}", f"b{i}"], [f"c{i}"], name=f"conv{i}", pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        last = f"r{i}"
    weights["w"] = rng.normal(0, 0.3, (16, 5)).astype(np.float32)
    weights["b"] = np.zeros(5, np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["p"], name="pool"))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"], name="flat"))
    nodes.append(helper.make_node("Gemm", ["f", "w", "b"], ["y0" if branch else "y"], name="classes"))
    if branch:
        weights["w_branch"] = rng.normal(0, 0.3, (16, 5)).astype(np.float32)
        weights["w_branch"][0] /= outlier
        nodes.append(helper.make_node("GlobalAveragePool", ["r1"], ["p1"], name="pool_branch"))
        nodes.append(helper.make_node("Flatten", ["p1"], ["f1"], name="flat_branch"))
        nodes.append(helper.make_node("Gemm", ["f1", "w_branch"], ["y1"], name="classes_branch"))
        nodes.append(helper.make_node("Add", ["y0", "y1"], ["y"], name="sum"))
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
            [numpy_helper.from_array(v, k) for k, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    from onnx.shape_inference import infer_shapes

    model = ir.from_proto(infer_shapes(proto, strict_mode=True))
    feeds = [{"x": rng.normal(0, 1, SHAPE).astype(np.float32)} for _ in range(samples)]
    inputs = [rng.normal(0, 1, SHAPE).astype(np.float32) for _ in range(evaluated)]
    return Case(model, Dataset.of(feeds, model.graph.inputs), metric(model, inputs), inputs)


def metric(model: ir.Model, inputs: list[np.ndarray]) -> Evaluation:
    """How near the answers are to the float model's, per sample, in [0, 1]."""
    from edgec.quantize.session import Session

    session = Session(model)
    expected = [session.run({"x": x})[0] for x in inputs]
    spread = float(np.std(expected))

    def evaluate(run: Any, indices: Any = None) -> dict[str, Any]:
        chosen = range(len(inputs)) if indices is None else indices
        errors = [float(np.abs(run({"x": inputs[i]})[0] - expected[i]).max()) / spread for i in chosen]
        values = [max(0.0, 1.0 - e) for e in errors]
        return {"metric": "nearness", "value": float(np.mean(values)), "n": len(values), "per_sample": values}

    return Evaluation(evaluate, "nearness")


@cache
def tight() -> str:
    """A budget for the small case that all integer doesn't keep, by a third of what that loses."""
    found = find(small_case(), Workers(Inline(), lambda data: data, 1), budget="100%")
    assert found.report["floats"] == []
    return f"{found.points[0].reading.drop * 2 / 3:.4f}"


def find(case: Case, crew: Workers, *, store: Store | None = None, budget: str | None = None, **asked: Any) -> Found:
    """A search by the costs of an unknown architecture: the same on every machine."""
    budget = tight() if budget is None else budget
    options: dict[str, Any] = {"evaluation": case.evaluation, "arch": "", **asked}
    return search(case.model, case.data, budget=Budget.parse(budget), workers=crew, store=store or Store(), **options)
