"""What the writer knows of an ONNX operator: how to write it, which layouts it takes, whether integers suit it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from edgec_targets.emitters.litert.context import Context

Perm = tuple[int, ...]
"""A layout: axis k of the file's tensor is axis perm[k] of the ONNX value."""


def identity(rank: int) -> Perm:
    """ONNX's own order of axes."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """N, spatial axes, C: what TFLite's convolutions want."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


class Refusal(Exception):  # noqa: N818 - nothing went wrong: the operator is refused
    """Why TFLite can't express a node, and what may help."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.why, self.fix = why, fix or "Leave this node out of the model, or use the onnxruntime payload."


@dataclass(frozen=True)
class Tied:
    """Data inputs of the result's rank, and the results, share one layout, whichever it is.

    `last` is an ONNX axis that must be the last one of the layout (None: any layout will do).
    """

    last: int | None = None


@dataclass(frozen=True)
class Fixed:
    """Each input and output has its own layout. Those not named are in ONNX's order."""

    inputs: dict[int, tuple[Perm, ...]]
    """Input number -> layouts that will do, best first."""
    outputs: dict[int, Perm]


@dataclass(frozen=True)
class Moved:
    """Output axis k is input axis perm[k]: nothing moves if the layouts say so."""

    perm: Perm


Layout = Tied | Fixed | Moved
PLAIN = Fixed({}, {})


@dataclass(frozen=True)
class Operator:
    """How one ONNX operator is written."""

    emit: Callable[[Context, ir.Node], None]
    layout: Callable[[ir.Node], Layout]
    integer: Callable[[ir.Node], bool]
    """Whether this node, between DequantizeLinear and QuantizeLinear, has an exact kernel for 8-bit integers."""


OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *names: str,
    layout: Layout | Callable[[ir.Node], Layout] = PLAIN,
    integer: bool | Callable[[ir.Node], bool] = False,
    domain: str = "",
) -> Callable[[Callable[[Context, ir.Node], None]], Callable[[Context, ir.Node], None]]:
    """Register the decorated function as the writer of these ONNX operators."""
    chosen = layout if callable(layout) else lambda _: layout
    asked = integer if callable(integer) else lambda _: integer

    def kernel(node: ir.Node) -> bool:
        try:
            return asked(node)
        except Refusal:  # a shape that isn't known: the writer will say so
            return False

    def register(emit: Callable[[Context, ir.Node], None]) -> Callable[[Context, ir.Node], None]:
        for name in names:
            OPERATORS[domain, name] = Operator(emit, chosen, kernel)
        return emit

    return register


def find(node: ir.Node) -> Operator | None:
    """The registered writer of a node; None for an operator that nobody wrote."""
    from edgec_targets.emitters.litert import ops

    ops.load()
    domain = "" if node.domain == "ai.onnx" else node.domain
    return OPERATORS.get((domain, node.op_type))
