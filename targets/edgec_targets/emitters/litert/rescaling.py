"""Bringing integers to another scale, as ONNX Runtime's concatenation does it: by what gives its answer for all 256.

XNNPACK's QUANTIZE from integers to integers has a factor of eight fractional bits; DEQUANTIZE and QUANTIZE multiply by
the reciprocal of a scale where ONNX Runtime divides, which parts where a value lies in the middle. Where neither is
right for every integer, a table is: GATHER from ONNX Runtime's own 256 answers.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from edgec_targets.emitters.litert.file import File, Quantization, Tensor

Way = Literal["direct", "wide", "table"]


def rescale(file: File, tensor: Tensor, out: Quantization) -> Tensor:
    """The same real numbers by another scale and zero point, by the quickest way that is exact."""
    assert tensor.quantization is not None
    return _write(file, tensor, out, _way(tensor.quantization, out))


def _write(file: File, tensor: Tensor, out: Quantization, way: Way) -> Tensor:
    made = file.tensor(tensor.shape, "int8", out)
    if way == "direct":
        file.operate("QUANTIZE", [tensor], [made], "QuantizeOptions")
    elif way == "wide":
        floats = file.tensor(tensor.shape, "float32")
        file.operate("DEQUANTIZE", [tensor], [floats], "DequantizeOptions")
        file.operate("QUANTIZE", [floats], [made], "QuantizeOptions")
    else:
        assert tensor.quantization is not None
        table = file.constant(answers(tensor.quantization, out), out)
        signed, index = (file.tensor(tensor.shape, "int32") for _ in range(2))
        file.operate("CAST", [tensor], [signed], "CastOptions")
        file.operate("ADD", [signed, file.constant(np.asarray(128, np.int32))], [index], "AddOptions")
        file.operate("GATHER", [table, index], [made], "GatherOptions", axis=0)
    return made


@functools.lru_cache(maxsize=1024)
def _way(source: Quantization, out: Quantization) -> Way:
    from edgec_targets.emitters.litert.prove import run

    wanted = answers(source, out)
    values = np.arange(-128, 128, dtype=np.int8)
    ways: tuple[Way, ...] = ("direct", "wide")
    for way in ways:
        file = File()
        given = file.tensor(values.shape, "int8", source)
        made = _write(file, given, out, way)
        if np.array_equal(run(file.finish([("x", given)], [("y", made)]), {"x": values})["y"], wanted):
            return way
    return "table"


@functools.lru_cache(maxsize=1024)
def answers(source: Quantization, out: Quantization) -> np.ndarray:
    """What ONNX Runtime makes of −128 … 127 where it concatenates them with integers of the result's scale."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    constants = []
    for name, q in (("a", source), ("y", out)):
        constants.append(helper.make_tensor(f"{name}_s", TensorProto.FLOAT, [], [q.scale[0]]))
        constants.append(helper.make_tensor(f"{name}_z", TensorProto.UINT8, [], [q.zero_point[0] + 128]))
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "a_s", "a_z"], ["fa"]),
        helper.make_node("DequantizeLinear", ["b", "y_s", "y_z"], ["fb"]),
        helper.make_node("Concat", ["fa", "fb"], ["fy"], axis=0),
        helper.make_node("QuantizeLinear", ["fy", "y_s", "y_z"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.UINT8, [s]) for n, s in (("a", 256), ("b", 1), ("y", 257))]
    graph = helper.make_graph(nodes, "rescale", ends[:2], ends[2:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"a": np.arange(256, dtype=np.uint8), "b": np.zeros(1, np.uint8)}
    (result,) = session.run(None, feeds)
    return (np.asarray(result)[:256].astype(np.int16) - 128).astype(np.int8)
