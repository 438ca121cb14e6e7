"""What an engine can run in integers, as data: the plan and the insertion of Q/DQ read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from edgec.quantize.scheme import Assignment, Scheme


def _any_node(node: ir.Node) -> bool:
    return True


def _same(model: ir.Model) -> ir.Model:
    return model


def _as_it_is(model: ir.Model, assignment: Assignment) -> None:
    return None


@dataclass(frozen=True)
class Rules:
    """An engine's integer operators.

    Attributes:
        engine: its name.
        weighted: constant-weight layers with an integer kernel (u8 activations, s8 weights, int32 bias).
        float_output: those of `weighted` whose integer kernel can also give float: no Q/DQ after them unless an
            integer consumer wants one.
        own_scale: operators on integers that requantize: output has its own scale.
        same_scale: operators that move or select integers: output has the input's scale.
        joins_sums: an Add is computed in the Conv that makes one of its operands: that one is not quantized.
        absorbed: activations that a saturating Q after the layer replaces.
        accepts: whether a node of these types, with its attributes, is one that the engine fuses.
        equivalent: gives a float model that computes the same and quantizes better; ranges are taken on it.
        prepare: rewrites a model in place into the form that the engine fuses, before planning; layer names stay, new
            nodes are added to the assignment.
        scheme: number formats, where the user asks for no others.
        symmetric: activations must be symmetric int8 (zero point 0).
        float_bias: biases stay float; a layer without one gets zeros, which bias correction may change.
        timed: architectures (as `platform.machine()` says) whose kernels `costs.py` knows.
        min_opset: the lowest default-domain opset with the Q/DQ forms used.
    """

    engine: str
    weighted: frozenset[str]
    float_output: frozenset[str]
    own_scale: frozenset[str]
    same_scale: frozenset[str]
    absorbed: frozenset[str]
    accepts: Callable[[ir.Node], bool] = _any_node
    equivalent: Callable[[ir.Model], ir.Model] = _same
    prepare: Callable[[ir.Model, Assignment], None] = _as_it_is
    scheme: Scheme = Scheme()  # noqa: RUF009 - frozen
    symmetric: bool = False
    joins_sums: bool = False
    float_bias: bool = False
    timed: frozenset[str] = frozenset()
    min_opset: int = 13
