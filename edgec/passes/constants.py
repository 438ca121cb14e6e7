"""Constant nodes become initializers, and all initializers live in the main graph: one place to look for a weight."""

from __future__ import annotations

import collections

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from edgec.passes import library
from edgec.passes.naming import Names
from edgec.passes.report import Log

# From this IR version on an initializer need not be a graph input, and one that is can be overridden by the caller.
FREE_INITIALIZERS = 4


def apply(model: ir.Model, log: Log) -> None:
    """Lifts constants.

    1. A Constant node becomes an initializer of the same name.
    2. A Constant that is itself an output of a graph stays: an output must be computed there.
    3. An initializer of a subgraph moves to the main graph, under a name nobody has.
    4. A model of IR version 3 lists its weights among its inputs only because it had to: they leave the inputs.
    """
    if model.ir_version < FREE_INITIALIZERS:
        common.RemoveInitializersFromInputsPass()(model)
        model.ir_version = FREE_INITIALIZERS
    library.run(model, _Lift(lift_all_constants=True, size_limit=0), log, "Constant to initializer")
    _separate_subgraph_initializers(model)
    library.run(model, common.LiftSubgraphInitializersToMainGraphPass(), log, "subgraph initializer to main graph")


class _Lift(common.LiftConstantsToInitializersPass):
    """onnx-ir's pass, which cuts zero bytes off the end of a string."""

    def _constant_node_attribute_to_tensor(
        self, node: ir.Node, attr_name: str, attr_value: ir.Attr, initializer_name: str
    ) -> ir.TensorProtocol | None:
        if attr_value.is_ref():
            return None
        if attr_name == "value_string":
            return ir.StringTensor(np.array(attr_value.as_string().encode(), dtype=object), name=initializer_name)
        if attr_name == "value_strings":
            strings = [s.encode() for s in attr_value.as_strings()]
            return ir.StringTensor(np.array(strings, dtype=object), name=initializer_name)
        return super()._constant_node_attribute_to_tensor(node, attr_name, attr_value, initializer_name)


def _separate_subgraph_initializers(model: ir.Model) -> None:
    """Two branches may use one name; moved to the main graph, one of them would shadow the other's."""
    uses = collections.Counter(
        name
        for graph in model.graphs()
        for name in {v.name for v in graph.inputs}
        | set(graph.initializers)
        | {v.name for node in graph for v in node.outputs}
    )
    names = Names(model)
    for graph in model.graphs():
        if graph is model.graph:
            continue
        for value in list(graph.initializers.values()):
            if value.name and uses[value.name] > 1 and not value.is_graph_output() and not value.is_graph_input():
                value.name = names.value(value.name)
