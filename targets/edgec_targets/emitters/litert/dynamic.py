"""Integer weights with float results: layers whose QuantizeLinear is missing behind them, and who computes them.

TFLite has no kernel from integers to floats. What it has is a product of int8 weights with float inputs that the kernel
quantizes itself, row by row, when it runs: as quick as integers and nearer to the float model, but not ONNX Runtime's
answer to the digit. Or the weights are widened to float32 once, at load: the same answer but for rounding, at the
speed of float32. So a last layer is widened, and a model whose work lies in such layers (a transformer) computes them
from integers.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from edgec_targets.emitters.litert.registry import Refusal
from edgec_targets.emitters.litert.values import array, shape, stored

_SHARE = 0.1
"""Of all multiplications: from here on the speed of such layers is the model's speed."""


def pays(graph: ir.Graph) -> bool:
    """Whether layers of integer weights and float results are more than a tenth of the work. After units are folded."""
    every = such = 0
    for node in graph:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or len(node.inputs) < 2:
            continue
        work = _products(node)
        every += work
        if eligible(node):
            such += work
    return such > _SHARE * every


def eligible(node: ir.Node) -> bool:
    """A product of a float by a constant matrix that is stored as int8."""
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    source = stored(weight)
    data = array(source)
    known = node.op_type in ("Gemm", "MatMul") and source is not weight
    return known and data is not None and data.ndim == 2 and source is not None and source.dtype == ir.DataType.INT8


def before_quantization(value: ir.Value) -> ir.Value:
    """x of DequantizeLinear(QuantizeLinear(x)), else the value."""
    back = value.producer()
    integers = back.inputs[0] if back is not None and back.op_type == "DequantizeLinear" else None
    there = integers.producer() if integers is not None else None
    if there is None or there.op_type != "QuantizeLinear" or there.inputs[0] is None:
        return value
    return there.inputs[0]


def _products(node: ir.Node) -> int:
    try:
        out, weight = shape(node.outputs[0]), shape(node.inputs[1])
    except Refusal:
        return 0
    each = math.prod(weight[1:]) if node.op_type.startswith("Conv") else weight[-2] if len(weight) > 1 else weight[0]
    return math.prod(out) * each
