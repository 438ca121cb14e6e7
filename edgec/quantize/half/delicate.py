"""What should stay float32 for its numbers: by operator where nothing is known of them, by their ranges where it is.

float16 overflows at 65504 and loses precision under 2⁻¹⁴. What that breaks, in the order of how often it is met: sums
over many values and sums of squares (variance), exponentials, divisions and logarithms of what is near zero, an epsilon
that becomes zero, mask values like −3.4·10³⁸. (Micikevicius et al. 2018, "Mixed Precision Training", arXiv:1710.03740,
section 3.3: reductions and point-wise transcendental functions in float32.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, prod

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.half.kinds import Kind


@dataclass(frozen=True)
class Seen:
    """What a value was on the data: its extremes, and how many elements it had at most."""

    low: float
    high: float
    size: float

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(abs(self.low), abs(self.high))


# Their result is an index, a choice or a count: a rounded input gives another one, not a nearby one.
_DECIDES = frozenset(
    {
        *("ArgMax", "ArgMin", "TopK", "NonMaxSuppression", "NonZero", "Unique", "OneHot", "Range", "Bernoulli"),
        *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Floor", "Ceil", "Round", "Mod", "Multinomial"),
        *("GridSample", "AffineGrid", "RoiAlign", "MaxRoiPool", "EyeLike", "IsInf", "IsNaN"),
    }
)
# State goes round and round and errors with it, or thousands of terms are summed: float32 whatever the ranges.
_LONG = frozenset(
    {"LSTM", "GRU", "RNN", "CumSum", "CumProd", "DFT", "STFT", "Det", "MelWeightMatrix", "BlackmanWindow"}
    | {"HannWindow", "HammingWindow", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
    | {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ReduceProd"}
)
_SUMS = frozenset({"ReduceSum", "ReduceMean", "ReduceL1", "GlobalAveragePool"})
_SQUARES = frozenset({"ReduceSumSquare", "ReduceL2", "GlobalLpPool", "LpNormalization"})
_NORMS = frozenset(
    {"LayerNormalization", "GroupNormalization", "InstanceNormalization", "MeanVarianceNormalization"}
    | {"RMSNormalization", "BatchNormalization"}
)
_POSITIVE = frozenset({"Log", "Sqrt", "Reciprocal"})
_EXPONENTIAL = frozenset({"Exp", "Softmax", "LogSoftmax", "Softplus", "ReduceLogSum", "ReduceLogSumExp"})
_WIDE = _SUMS | _SQUARES | _NORMS | _POSITIVE | _EXPONENTIAL | {"Div", "Pow"}
# e^x errs by the absolute error of x: at 16 that of float16 is 2⁻⁸.
_EXPONENT = 16.0
# Calibration has not seen everything: values may become four times as large.
_ROOM = 4.0
_UNKNOWN = Seen(-inf, inf, inf)


def by_operator(node: ir.Node) -> str:
    """Why a node stays float32 whatever its values are (a sentence), or ""."""
    if node.op_type in _DECIDES:
        return "its result flips where its input is rounded"
    if node.op_type in _LONG:
        return "errors add up in it"
    if node.op_type == "Cast" and any(v is not None and v.dtype == ir.DataType.FLOAT for v in node.inputs):
        return "it converts from float32 itself"
    return ""


def without_data(node: ir.Node) -> str:
    """Why a node stays float32 as long as its ranges are not known (a sentence), or ""."""
    kind = node.op_type
    if kind == "Div" and layers.constant_tensor(node.inputs[1]) is not None:
        return ""
    if kind == "GlobalAveragePool":
        return ""  # of features, which are near one
    if kind in _WIDE or (kind == "Mul" and node.inputs[0] is node.inputs[1]):
        return f"{kind} may leave the range of 16 bits, and no data says whether it does"
    narrow = (ir.DataType.BOOL, ir.DataType.UINT8, ir.DataType.INT8)
    if kind == "Cast" and any(v is not None and v.dtype not in narrow for v in node.inputs):
        return "its integers may be beyond the range of 16 bits, and no data says whether they are"
    return ""


def outside(seen: Seen | None, kind: Kind) -> str:
    """Why a value with these extremes can't be kept in this type (a sentence), or ""."""
    if seen is None:
        return "it was infinite, undefined or never computed on the data"
    magnitude = seen.magnitude
    if magnitude * _ROOM > kind.largest:
        return f"it reached ±{magnitude:.3g}, near the end of {kind.name}"
    if 0 < magnitude < kind.normal * 16:
        return f"it reached no more than ±{magnitude:.3g}: {kind.name} has few digits there"
    return ""


def by_ranges(node: ir.Node, ranges: Mapping[str, Seen], kind: Kind) -> str:
    """Why a node's inner values don't fit, though what it reads and gives does (a sentence), or "".

    Args:
        node: one whose inputs and results have ranges that fit.
        ranges: value name -> extremes; constants need none.
        kind: the type.
    """
    operator, x = node.op_type, node.inputs[0] if node.inputs else None
    if operator not in _WIDE or x is None:
        return ""
    seen = ranges.get(str(x.name), _UNKNOWN)
    low, magnitude, count = seen.low, seen.magnitude, _summed(node, ranges)
    if operator in _SUMS and not magnitude * count * _ROOM <= kind.largest:
        return f"the sum of {count:g} values up to {magnitude:.3g} may not fit"
    if operator in _SQUARES | _NORMS - {"BatchNormalization"}:
        stashed = operator in ("LayerNormalization", "RMSNormalization") and _stash(node)
        if not stashed and not magnitude**2 * count * _ROOM <= kind.largest:
            return f"the sum of {count:g} squares of values up to {magnitude:.3g} may not fit"
    if operator in _POSITIVE and not low >= kind.normal:
        return f"{operator} of {low:.3g}: {kind.name} has few digits near zero"
    if operator == "Div" and layers.constant_tensor(node.inputs[1]) is None:
        divisor = node.inputs[1]
        by = _UNKNOWN if divisor is None else ranges.get(str(divisor.name), _UNKNOWN)
        if not (by.low >= kind.normal or by.high <= -kind.normal):
            return f"a divisor of {by.low:.3g} … {by.high:.3g} comes near zero"
    if operator in _EXPONENTIAL and not magnitude * kind.roundoff <= _EXPONENT * 2.0**-11:
        return f"{operator} of ±{magnitude:.3g}: its result errs by the absolute error of that"
    if operator == "Pow":
        exponent = layers.constant(node.inputs[1])
        if exponent is None or exponent.size != 1 or float(exponent.reshape(())) not in (0.5, 1.0, 2.0, 3.0):
            return "a power that is not known"
        if float(exponent.reshape(())) == 0.5 and not low >= kind.normal:
            return f"root of {low:.3g}: {kind.name} has few digits near zero"
    return ""


def _stash(node: ir.Node) -> bool:
    """Whether the operator's own text has its statistics computed in float32 (`stash_type` 1, the default)."""
    attribute = node.attributes.get("stash_type")
    return attribute is None or attribute.as_int() == 1


def _summed(node: ir.Node, ranges: Mapping[str, Seen]) -> float:
    """How many values a reduction adds up for one result; infinite where that was not seen."""
    x, y = node.inputs[0], node.outputs[0]
    before = _UNKNOWN if x is None else ranges.get(str(x.name), _UNKNOWN)
    if node.op_type in _NORMS | {"LpNormalization"}:  # the result is as large as the input
        attribute, axis = node.attributes.get("axis"), -1
        if node.op_type in ("InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization"):
            axis = 2
        elif attribute is not None:
            axis = attribute.as_int()
        dims = None if x is None or x.shape is None else list(x.shape)[axis:]
        dims = dims[:1] if dims is not None and node.op_type == "LpNormalization" else dims
        known = dims is not None and all(isinstance(d, int) for d in dims)
        return float(prod(d for d in dims if isinstance(d, int))) if known and dims is not None else before.size
    after = ranges.get(str(y.name), _UNKNOWN)
    return before.size / after.size if 0 < after.size < inf else inf
