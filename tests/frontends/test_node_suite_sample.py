"""A sample of ONNX's backend node suite: edgec passes what plain ONNX Runtime does (all: benchmarks/node_suite.py)."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

WON = (
    "test_quantizelinear",  # stamped 28, where the engine has no kernel
    "test_dequantizelinear_int4",
    "test_roialign_mode_max",
    "test_optional_has_element_tensor_input",
    "test_swiglu",  # a function body inside a function body
    "test_flexattention_score_mod",  # a function body with a graph
    "test_lstm_batchwise",
    "test_max_int16",  # a wider type
    "test_attention_4d_padded_kv_bf16",
)
"""Cases that plain ONNX Runtime 1.32 refuses and edgec passes, one for each way."""

EVERY = 19
"""Of the edge-relevant cases, every so many-th."""


@pytest.fixture(scope="module")
def suite() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgec_node_suite", FOLDER / "node_suite.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sample(suite: ModuleType) -> None:
    edge = json.loads(suite.EDGE.read_text())["edge_cases"]
    wanted = {*edge[::EVERY], *WON}
    lost, passed, won = {}, 0, set()
    for case in suite.cases():
        if case.name not in wanted:
            continue
        ours = suite.judge(case, "edgec")
        theirs = suite.judge(case, "onnxruntime")
        passed += ours.status == "pass"
        if ours.status == "pass" and theirs.status != "pass":
            won.add(case.name)
        if ours.status != "pass" and theirs.status == "pass":
            lost[case.name] = ours
    assert not lost
    assert passed >= len(wanted) - 2
    assert won >= set(WON)


def test_a_wrong_answer_is_a_mismatch(suite: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness itself can fail: an engine that answers something else doesn't pass."""
    case = next(c for c in suite.cases() if c.name == "test_relu")
    monkeypatch.setitem(suite.ENGINES, "wrong", lambda model: lambda inputs: [x + 1 for x in inputs])
    assert suite.judge(case, "wrong").status == "mismatch"


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
def test_packing_of_small_integers(suite: ModuleType, name: str) -> None:
    import ml_dtypes
    import numpy as np

    values = np.array([1, 0, 1, 1, 0], getattr(ml_dtypes, name))
    bits = int(name[-1])
    data = int.from_bytes(suite.packed(values), "little")
    assert [data >> bits * i & ((1 << bits) - 1) for i in range(5)] == [1, 0, 1, 1, 0]
