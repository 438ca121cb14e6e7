"""Removes Identity nodes."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from edgec.passes import library
from edgec.passes.report import Log


def apply(model: ir.Model, log: Log) -> None:
    """`y = Identity(x)`: whoever used y uses x.

    1. y is no output of a graph: removed.
    2. y is an output and x is computed in the same graph: removed; x takes y's name.
    3. y is an output and x is an input, an initializer or a value of an outer graph: kept, an output must be computed.
    4. x and y are both outputs: kept, each needs its own name.
    5. The declared shapes of x and y contradict each other: kept.
    """
    library.run(model, _Eliminate(), log, "Identity")


class _Eliminate(common.IdentityEliminationPass):
    """onnx-ir's pass, which does not know the outer graph of case 3, nor cases 4 and 5."""

    def _try_eliminate_identity_node(self, node: ir.Node) -> bool:
        if node.op_type != "Identity" or node.domain != "" or len(node.inputs) != 1 or len(node.outputs) != 1:
            return False
        x, y = node.inputs[0], node.outputs[0]
        if x is None or (x.shape is not None and y.shape is not None and len(x.shape) != len(y.shape)):
            return False
        if y.is_graph_output():
            producer = x.producer()
            if producer is None or producer.graph is not node.graph or x.is_graph_output():
                return False
        return super()._try_eliminate_identity_node(node)
