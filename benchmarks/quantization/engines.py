"""Opens a file in onnxruntime or OpenVINO, on one thread, optionally with what goes into a final softmax as well.

Probabilities hide errors on most samples and blow up a few; so decibels are taken before a final softmax, found in each
file by walking back from the output through what moves or rescales values.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], list[Any]]
MOVES = {"QuantizeLinear", "DequantizeLinear", "Identity", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"}
OPENVINO_MOVES = {"FakeQuantize", "Convert", "Subtract", "Multiply", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}


def opened(engine: str, file: str, feed: dict[str, Any]) -> Run:
    """The model's outputs in its own order, by the feed's shapes."""
    if engine == "openvino":
        return openvino(openvino_model(file, feed)[0], list(feed))
    return onnxruntime(file)


def opened_before_softmax(engine: str, file: str, feed: dict[str, Any]) -> tuple[Run, Run]:
    """(run, seen): `run` gives the outputs; `seen`, called after it, the same call's values before a final softmax."""
    if engine == "openvino":
        model, count, where = openvino_model(file, feed, expose=True)
        inner = openvino(model, list(feed), copy=True)
    else:
        content, count, where = onnx_model(file)
        inner = onnxruntime(content)
    last: list[Any] = []

    def run(values: dict[str, Any]) -> list[Any]:
        last[:] = inner(values)
        return last[:count]

    def seen(_: dict[str, Any]) -> list[Any]:
        return [last[where.get(i, i)] for i in range(count)]

    return run, seen


def onnxruntime(model: str | bytes) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda feed: list(session.run(None, feed))


def onnx_model(file: str) -> tuple[bytes, int, dict[int, int]]:
    """The model with inputs of its final softmaxes as further outputs; how many it had; which replaces which."""
    import onnx

    model = onnx.load(file)
    made = {name: node for node in model.graph.node for name in node.output}
    count, where = len(model.graph.output), {}
    for i in range(count):
        node = made.get(model.graph.output[i].name)
        while node is not None and node.op_type in MOVES:
            node = made.get(node.input[0])
        if node is not None and node.op_type == "Softmax":
            where[i] = len(model.graph.output)
            added = onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None)
            model.graph.output.append(added)
    return model.SerializeToString(), count, where


def openvino_model(file: str, feed: dict[str, Any], expose: bool = False) -> tuple[Any, int, dict[int, int]]:
    """As `onnx_model`, with the feed's fixed shapes, as OpenVINO's documentation advises for latency."""
    import openvino as ov

    model = ov.Core().read_model(file)
    model.reshape({name: list(value.shape) for name, value in feed.items()})
    count, where = len(model.outputs), {}
    for i in range(count if expose else 0):
        node = model.outputs[i].get_node().input_value(0).get_node()
        while node.get_type_name() in OPENVINO_MOVES:
            node = node.input_value(0).get_node()
        if node.get_type_name() in ("Softmax", "SoftMax"):
            where[i] = len(model.outputs)
            model.add_outputs(node.input_value(0))
    return model, count, where


def openvino(model: Any, names: list[str], copy: bool = False) -> Run:
    """Inputs and outputs are shared with the engine, as is quickest; copied, they outlast the next call."""
    import openvino as ov

    how = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = ov.Core().compile_model(model, "CPU", how).create_infer_request()
    count = len(model.outputs)

    def run(feed: dict[str, Any]) -> list[Any]:
        found = request.infer({name: feed[name] for name in names}, share_inputs=True, share_outputs=not copy)
        return [np.array(found[i]) if copy else found[i] for i in range(count)]

    return run


def fix_threads() -> None:
    """Before an engine is imported: no library starts threads of its own."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
