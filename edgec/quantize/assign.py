"""Which layers become integers by default, and which the user wants left alone."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgec.errors import UsageError
from edgec.quantize import layers
from edgec.quantize.scheme import Assignment, Scheme


def assign(model: ir.Model, *, scheme: Scheme = Scheme(), exclude: Collection[str] = ()) -> Assignment:  # noqa: B008
    """A Scheme for each quantizable node of the main graph, None for those that stay float.

    Left in float: what is excluded; softmax, whose eight-bit form costs more than it gives; convolutions whose result
    goes (through reshapes, concatenations, constant factors and offsets) into Exp, Pow, Log, Sqrt or Reciprocal, where
    eight bits are too few: box decoding, power spectra. Nodes inside If, Loop and Scan bodies are not listed and stay
    float.

    Args:
        model: float model.
        scheme: for all quantized layers.
        exclude: names (see `layers.layer_names`) or operator types to leave in float.

    Raises:
        UsageError: an exclusion matches no node.
    """
    names = layers.layer_names(model)
    types = {node.op_type for node in model.graph}
    for word in exclude:
        if word not in types and word not in names.values():
            near = [n for n in names.values() if word.lower() in n.lower()][:3]
            raise UsageError(
                f"nothing to exclude is called '{word}'",
                f"it is no node's name and no operator type of this model ({', '.join(sorted(types))})",
                f"did you mean {', '.join(near)}?" if near else "`edgec inspect MODEL --ops` lists the names",
                code="E212",
            )
    result: Assignment = {}
    for node, name in names.items():
        if not layers.is_onnx(node) or node.op_type not in layers.QUANTIZABLE:
            continue
        excluded = name in exclude or node.op_type in exclude
        result[name] = None if excluded or _float_by_nature(node) else scheme
    return result


def _float_by_nature(node: ir.Node) -> bool:
    if node.op_type in layers.WEIGHTED and layers.weight_of(node) is None:
        return True  # activation × activation
    if node.op_type in ("Conv", "ConvTranspose"):  # a matrix product can keep its result in float
        return feeds_wide_range(node)
    return node.op_type == "Softmax"


def feeds_wide_range(node: ir.Node) -> bool:
    """Whether a result reaches an operator of wide dynamic range through data movement and constant factors alone."""
    pending, seen = list(node.outputs), set(node.outputs)
    while pending:
        for consumer in pending.pop().consumers():
            if not layers.is_onnx(consumer):
                continue
            if consumer.op_type in layers.WIDE_RANGE or _squares(consumer):
                return True
            if consumer.op_type in layers.SAME_VALUES | {"Concat"} or _by_constant(consumer):
                new = [v for v in consumer.outputs if v not in seen]
                pending += new
                seen.update(new)
    return False


def _by_constant(node: ir.Node) -> bool:
    if node.op_type not in ("Add", "Div", "Mul", "Sub"):
        return False
    return any(layers.constant_tensor(v) is not None for v in node.inputs)


def _squares(node: ir.Node) -> bool:
    return node.op_type == "Mul" and len(node.inputs) == 2 and node.inputs[0] is node.inputs[1]
