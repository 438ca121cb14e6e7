"""Residual sums before a normalization are written so that onnxruntime doesn't fuse them into its slow kernel."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgec.quantize.placement.residual import unfused_residuals
from edgec.quantize.session import Session


def optimized(model: ir.Model) -> Counter[str]:
    with tempfile.TemporaryDirectory() as folder:
        Session(model, threads=1, save_optimized=Path(folder) / "optimized.onnx")
        return Counter(node.op_type for node in ir.load(Path(folder) / "optimized.onnx").graph)


def block(build) -> ir.Model:
    rng = np.random.default_rng(0)
    nodes = [
        ("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "b"], ["hb"]), ("Add", ["hb", "x"], ["r"]),
        ("LayerNormalization", ["r", "g", "b"], ["y"]),
    ]  # fmt: skip
    constants = {
        "w": rng.standard_normal((16, 16)).astype(np.float32), "b": rng.standard_normal(16).astype(np.float32),
        "g": np.ones(16, np.float32),
    }  # fmt: skip
    return build(nodes, {"x": [1, 8, 16]}, ["y"], constants)


def test_the_sum_stays_apart_and_the_answer_the_same(build) -> None:
    model = block(build)
    before = block(build)
    assert optimized(before)["SkipLayerNormalization"] == 1  # were it no longer so, this file could go
    assert unfused_residuals(model) == 1
    counts = optimized(model)
    assert counts["SkipLayerNormalization"] == 0 and counts["Sum"] == 1
    feed = {"x": np.random.default_rng(1).standard_normal((1, 8, 16)).astype(np.float32)}
    for a, b in zip(Session(before).run(feed), Session(model).run(feed), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert [n.outputs[0].name for n in model.graph] == [n.outputs[0].name for n in before.graph]


def test_biases_and_other_sums_stay(build) -> None:
    nodes = [("Add", ["x", "b"], ["h"]), ("LayerNormalization", ["h", "g"], ["y"]), ("Add", ["x", "y"], ["z"])]
    model = build(nodes, {"x": [1, 8, 16]}, ["z"], {"b": np.ones(16, np.float32), "g": np.ones(16, np.float32)})
    assert unfused_residuals(model) == 0
