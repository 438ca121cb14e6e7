"""What the tests of bad luck share: bundles of relu(x) for either engine, programs in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from binascii import a2b_base64

import pytest
from onnx import helper

from edgec_runtime.engines import litert_capi, onnxruntime_capi, selfcheck
from tests.runtime.litert_models import tflite

both = pytest.mark.skipif(
    litert_capi.library() is None or onnxruntime_capi.library() is None, reason="an engine's library is missing"
)
CAPI = {"litert": litert_capi, "onnxruntime": onnxruntime_capi}
engines = pytest.mark.parametrize("engine", CAPI)
LITERT = a2b_base64(selfcheck.MODEL)


def onnx_relu(shape=(1, 4)) -> bytes:
    info = [helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


WIDE = (1, 1 << 22)  # 16 MB in and 16 MB out


def wide(engine: str) -> bytes:
    """relu(x) of so many numbers that a call takes a while and memory."""
    return tflite(shape=WIDE) if engine == "litert" else onnx_relu(WIDE)


def in_child(program: str, *arguments: object, limit: float = 60) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own, without the engines' packages."""
    packages = ("onnxruntime", "ai_edge_litert", "tflite_runtime")
    begin = f"import sys\nfor name in {packages!r}: sys.modules[name] = None\n"
    return subprocess.run(
        [sys.executable, "-c", begin + program, *map(str, arguments)], capture_output=True, text=True, timeout=limit
    )
