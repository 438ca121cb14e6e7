"""TFLite models of one operator, bundles of them, and how a test loads one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec_runtime.engines import litert_capi
from edgec_runtime.payload import StoredPayload

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "string": 5, "bool": 6, "int16": 7, "int8": 9, "float16": 1,
         "float64": 10, "uint32": 15, "uint64": 12}  # fmt: skip
X = np.array([[1, -2, 3, -4]], np.float32)
RELU = [[1.0, 0.0, 3.0, 0.0]]


def tflite(operator="RELU", dtype="float32", shape=(1, 4), *, free=False, size=0):
    """One operator of x → y (RESHAPE keeps the shape: it copies any type), with a signature as our emitter's."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors = []
    for name in "xy":
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), TYPES[dtype], 0
        if free:
            tensor.shapeSignature = [-1, *shape[1:]]
        graph.tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0], [1]
    if operator == "RESHAPE":
        step.builtinOptionsType, step.builtinOptions = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
        step.builtinOptions.newShape = list(shape)
    graph.operators, graph.inputs, graph.outputs = [step], [0], [1]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [], []
    for place, (name, tensors) in enumerate((("x", signature.inputs), ("y", signature.outputs))):
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name.encode(), place
        tensors.append(entry)
    model.version, model.buffers, model.operatorCodes = 3, [schema.BufferT()], [code]
    model.subgraphs, model.signatureDefs = [graph], [signature]
    if size:
        padding = schema.BufferT()
        padding.data = np.zeros(size, np.uint8)
        model.buffers.append(padding)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def payload(folder: Path, data: bytes) -> StoredPayload:
    (folder / "m.tflite").write_bytes(data)
    entry = {"id": "p", "engine": "litert", "engine_version": ">=2.3,<3", "files": {"model": "m"}}
    made = StoredPayload(entry, {"model": str(folder / "m.tflite")})
    made.proven = litert_capi.library().stamp()  # the check in a child process has tests of its own
    return made


def load(folder, data=None, adapter=litert_capi, **options):
    return adapter.Engine().load(payload(folder, tflite() if data is None else data), {"threads": 1, **options})


def bundle(kit, data, *, dtype="float32", shape=(1, 4), **changes):
    kit.files = {"payloads/litert/model.tflite": data}
    tensors = [{"name": name, "dtype": dtype, "shape": list(shape), "layout": None} for name in "xy"]
    kit.manifest["inputs"], kit.manifest["outputs"] = tensors[:1], tensors[1:]
    entry = {
        "id": "litert-float32", "engine": "litert", "engine_version": ">=2.3,<3", "options": {"threads": 1},
        "proven_with": {"package": "ai-edge-litert", "version": "2.3.0"},
        "files": {"model": "payloads/litert/model.tflite"}, **changes,
    }  # fmt: skip
    kit.manifest["payloads"] = [kit.payload(**entry)]
    return kit
