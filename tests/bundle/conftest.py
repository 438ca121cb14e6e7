"""Small bundles with real ONNX payloads, and key folders and device roots of their own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def signer() -> Any:
    from edgec.bundle import keys

    return keys.development_key()


@pytest.fixture(scope="session")
def make() -> SimpleNamespace:
    """The helpers below: make.onnx(), make.payload(), make.manifest()."""
    return SimpleNamespace(onnx=onnx_bytes, payload=payload, manifest=manifest)


def onnx_bytes(scale: float = 2.0) -> bytes:
    """y = x * w + 1, a real model of one weight vector."""
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "one"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [
            numpy_helper.from_array(np.array([scale, 1, 1, 1], np.float32), "w"),
            numpy_helper.from_array(np.ones(1, np.float32), "one"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString(deterministic=True)


def payload(name: str = "onnxruntime-float32-host", member: str = "payloads/onnxruntime/model.onnx") -> dict[str, Any]:
    return {
        "id": name, "engine": "onnxruntime", "engine_version": ">=1.18,<2",
        "proven_with": {"package": "onnxruntime", "version": "1.32.0"}, "files": {"model": member},
        "board": "host", "arch": "x86_64", "isa": [], "board_isa": [], "portable": True, "native_code": False,
        "precision": "float32",
        "opset": 21, "memory": 1000, "options": {"threads": 1, "spinning": False}, "accuracy": None, "golden": None,
    }  # fmt: skip


def manifest(payloads: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "app": {"name": "affine", "version": "1.0.0", "sequence": 1},
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 4], "layout": None}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 4], "layout": None}],
        "preprocessing": [], "postprocessing": [],
        "payloads": payloads if payloads is not None else [payload()],
        "golden": {"kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": []},
        "recipe": None, "report": None, "sbom": None, "compiled_for": ["host"], "checked_by": [], "run_on": [],
        **changes,
    }  # fmt: skip
