"""For how many pairs of integers a kernel's answer isn't ONNX Runtime's: both are asked, for every pair there is.

XNNPACK adds and multiplies 8-bit integers with fixed-point factors, ONNX Runtime in float32. Near the middle between
two integers they may round apart, by one step; for which of the 65,536 pairs depends on the scales. It is none to three
of them in the models tried. In float32 between DEQUANTIZE and QUANTIZE it is fewer, and takes longer (5 % of ResNet-8).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from edgec_targets.emitters.litert.file import File, Quantization, Tensor

OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}
_OPERATORS = {"ADD": "Add", "SUB": "Sub", "MUL": "Mul"}
_ACTIVATIONS: dict[int, tuple[str, tuple[float, float]]] = {
    1: ("Clip", (0.0, 3e38)),
    2: ("Clip", (-1.0, 1.0)),
    3: ("Clip", (0.0, 6.0)),
}
"""`ActivationFunctionType`: RELU, RELU_N1_TO_1, RELU6."""


_TOLERATED = 16
"""Pairs of 65,536 that may come out one step apart before a kernel on integers is not used."""


def in_integers(
    code: str, a: Quantization, b: Quantization, out: Quantization, fused: int, *, exact: bool
) -> tuple[bool, int]:
    """Whether to run `code` on the integers themselves, and how many pairs then differ from ONNX Runtime.

    `exact` allows that only where float32 would be no better.
    """
    direct = differing(code, a, b, out, fused, False)
    if direct == 0 or (not exact and direct <= _TOLERATED):
        return True, direct
    wide = differing(code, a, b, out, fused, True)
    return direct <= wide, min(direct, wide)


@functools.lru_cache(maxsize=1024)
def differing(code: str, a: Quantization, b: Quantization, out: Quantization, fused: int, wide: bool) -> int:
    """Pairs on which `code` (on integers, or in float32 if `wide`) and ONNX Runtime differ.

    Deterministic for given versions of both engines.
    """
    values = np.arange(-128, 128, dtype=np.int8)
    pair = [np.ascontiguousarray(v) for v in np.meshgrid(values, values, indexing="ij")]
    ours, theirs = _litert(code, a, b, out, fused, wide, *pair), _onnxruntime(code, a, b, out, fused, *pair)
    return int(np.count_nonzero(ours != theirs))


def operate(file: File, code: str, inputs: list[Tensor], out: Tensor, fused: int, wide: bool) -> None:
    """Write `code` of two integer tensors: on the integers, or in float32 between them."""
    if not wide:
        file.operate(code, inputs, [out], OPTIONS[code], fusedActivationFunction=fused)
        return
    floats = [file.tensor(t.shape, "float32") for t in inputs]
    for tensor, made in zip(inputs, floats, strict=True):
        file.operate("DEQUANTIZE", [tensor], [made], "DequantizeOptions")
    result = file.tensor(out.shape, "float32")
    file.operate(code, floats, [result], OPTIONS[code], fusedActivationFunction=fused)
    file.operate("QUANTIZE", [result], [out], "QuantizeOptions")


def _litert(
    code: str, a: Quantization, b: Quantization, out: Quantization, fused: int, wide: bool, *pair: np.ndarray
) -> np.ndarray:
    from edgec_targets.emitters.litert.prove import run

    file = File()
    inputs = [file.tensor(pair[0].shape, "int8", q) for q in (a, b)]
    result = file.tensor(pair[0].shape, "int8", out)
    operate(file, code, inputs, result, fused, wide)
    data = file.finish(list(zip("ab", inputs, strict=True)), [("y", result)])
    return run(data, dict(zip("ab", pair, strict=True)))["y"]


def _onnxruntime(
    code: str, a: Quantization, b: Quantization, out: Quantization, fused: int, *pair: np.ndarray
) -> np.ndarray:
    """The same by DequantizeLinear → operator → QuantizeLinear on uint8, which the engine fuses as on a device."""
    import onnxruntime as ort
    from onnx import TensorProto, helper

    constants: list[Any] = []
    for name, q in (("a", a), ("b", b), ("y", out)):
        constants.append(helper.make_tensor(f"{name}_s", TensorProto.FLOAT, [], [q.scale[0]]))
        constants.append(helper.make_tensor(f"{name}_z", TensorProto.UINT8, [], [q.zero_point[0] + 128]))
    nodes = [
        helper.make_node("DequantizeLinear", ["a", "a_s", "a_z"], ["fa"]),
        helper.make_node("DequantizeLinear", ["b", "b_s", "b_z"], ["fb"]),
        helper.make_node(_OPERATORS[code], ["fa", "fb"], ["fy"]),
    ]
    last = "fy"
    if fused in _ACTIVATIONS:
        operator, limits = _ACTIVATIONS[fused]
        for n, limit in enumerate(limits):
            constants.append(helper.make_tensor(f"limit_{n}", TensorProto.FLOAT, [], [limit]))
        nodes.append(helper.make_node(operator, ["fy", "limit_0", "limit_1"], ["fc"]))
        last = "fc"
    nodes.append(helper.make_node("QuantizeLinear", [last, "y_s", "y_z"], ["y"]))
    shape = list(pair[0].shape)
    ends = [
        [helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n in names] for names in (("a", "b"), ("y",))
    ]
    graph = helper.make_graph(nodes, "pairs", ends[0], ends[1], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {n: (v.astype(np.int16) + 128).astype(np.uint8) for n, v in zip("ab", pair, strict=True)}
    (result,) = session.run(None, feeds)
    return (np.asarray(result).astype(np.int16) - 128).astype(np.int8)
