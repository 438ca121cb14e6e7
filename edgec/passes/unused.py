"""Removes what no output depends on: nodes, initializers, functions, operator sets."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from edgec.passes import library
from edgec.passes.report import Log


def apply(model: ir.Model, log: Log) -> None:
    """Removes dead code.

    1. A node none of whose outputs is used, and then what only it used.
    2. An initializer nobody uses; one that is also a graph input or output stays.
    3. A function nobody calls, an operator set nobody uses.
    """
    library.run(model, common.RemoveUnusedNodesPass(), log, "unused node")
    library.run(model, common.RemoveUnusedFunctionsPass(), log, "unused function")  # type: ignore[no-untyped-call]
    library.run(model, common.RemoveUnusedOpsetsPass(), log, "unused operator set")


def sweep(model: ir.Model) -> None:
    """The same for nodes and initializers, unrecorded: what another pass left behind counts as that pass's doing."""
    with library.quiet():
        common.RemoveUnusedNodesPass()(model)
