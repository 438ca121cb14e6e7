"""A model as ONNX Runtime wants it: the lowest opset that it takes, what it lacks spelled out in what it has."""

from __future__ import annotations

import onnx_ir as ir

from edgec_runtime.errors import UnsupportedError
from edgec_targets.emitters.onnxruntime import legalize, opset
from edgec_targets.types import Board

LIMIT = 2**31 - 1
"""Bytes in one protobuf message."""


def write(model: ir.Model, board: Board | None = None) -> tuple[bytes, int]:
    """The model's bytes, weights inside, and their opset. The same model always gives the same bytes.

    Tried in this order, each against a real session: the opsets that mean the same, lowest first; then the same
    with nodes the engine has no kernel for replaced (see `legalize`). When nothing loads, the model at its own
    opset: the caller asks the engine why. `board` is not needed yet: all boards' engines read these opsets.

    Raises:
        UnsupportedError: the weights are over 2 GB, more than one ONNX file can hold.
    """
    del board
    size = sum(
        v.const_value.nbytes for g in model.graphs() for v in g.initializers.values() if v.const_value is not None
    )
    if size >= LIMIT:
        raise UnsupportedError(
            f"the model's weights are {size} bytes, more than one ONNX file can hold (2 GB)",
            "the engine loads a payload from one mapped file",
            "quantize the model to int8, or split it",
            code="E402",
        )
    for variant in legalize.variants(model):
        for version in opset.candidates(variant):
            data = serialize(opset.lower(variant, version))
            if _takes(data):
                return data, version
    own = opset.of(model)
    return serialize(opset.lower(model, own)), own


def serialize(model: ir.Model) -> bytes:
    """Deterministic bytes; external tensors are read and stored inside."""
    tensors = [v.const_value for g in model.graphs() for v in g.initializers.values()]
    if any(isinstance(tensor, ir.ExternalTensor) for tensor in tensors):
        model = ir.external_data.load_to_model(model.clone())
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def _takes(data: bytes) -> bool:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # the engine has a class for each of its status codes; the caller asks for the words
        return False
    return True
