"""Which ONNX operators are written, and by whom; why one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgec_targets.emitters.ncnn.context import Context

Write = Callable[["Context", "ir.Node"], None]


class Refusal(Exception):  # noqa: N818 - nothing went wrong: the operator is refused
    """Why ncnn can't express a node, and what may help."""

    def __init__(self, why: str, fix: str = "") -> None:
        super().__init__(why)
        self.why, self.fix = why, fix or "Leave this node out of the model, or use another engine's payload."


OPERATORS: dict[str, Write] = {}


def operator(*names: str) -> Callable[[Write], Write]:
    """Register the decorated function as the writer of these operators of ONNX's own domain."""

    def register(write: Write) -> Write:
        for name in names:
            OPERATORS[name] = write
        return write

    return register


def find(node: ir.Node) -> Write | None:
    """The writer of a node; None where nobody wrote one."""
    from edgec_targets.emitters.ncnn import ops

    ops.load()
    return OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
