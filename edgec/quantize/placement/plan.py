"""The plan: which nodes run in integers under an engine's rules, and which values need a range for it.

Weighted layers are the reason for integers; everything else joins only where it lies between them, so that the data
needn't go to float and back. In a float tail (box decoding, softmax) or among LayerNorms nothing joins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.arithmetic import BIAS_LARGEST
from edgec.quantize.placement.rules import Rules
from edgec.quantize.scheme import Assignment, Scheme

RANGE_OF = "edgec.range_of"
"""Metadata of a value that a placement made: the name of the float model's value whose values, moved, it has."""


def range_name(value: ir.Value) -> str:
    """The name under which a value's range is kept: the float model's."""
    return value.metadata_props.get(RANGE_OF, str(value.name))


@dataclass
class Unit:
    """A node that runs in integers.

    Attributes:
        node: the node.
        scheme: its number formats.
        inputs: indices of its activation inputs.
        same_scale: the output has the input's scale.
        activation: the Relu or Clip behind it, which Q after it may replace.
        quantized_output: Q/DQ follow.
    """

    node: ir.Node
    scheme: Scheme
    inputs: tuple[int, ...]
    same_scale: bool = False
    activation: ir.Node | None = None
    quantized_output: bool = True

    @property
    def results(self) -> tuple[ir.Value, ...]:
        """The values that are quantized behind it."""
        return tuple((self.activation or self.node).outputs)


@dataclass
class Plan:
    """Units in graph order, for each value with Q/DQ the value whose range it uses, and the part of it that matters."""

    units: list[Unit]
    roots: dict[ir.Value, ir.Value]
    useful: dict[ir.Value, tuple[float, float]]

    @property
    def ranges_needed(self) -> list[str]:
        """Names of the values that need a range."""
        return list(dict.fromkeys(range_name(v) for v in self.roots.values()))


def plan(model: ir.Model, assignment: Assignment, rules: Rules, has_range: Callable[[str], bool] | None = None) -> Plan:
    """Decide what runs in integers.

    Args:
        model: float model, topologically sorted.
        assignment: layer name -> Scheme or None.
        rules: the engine's.
        has_range: whether a value has a range; nodes that would need one without stay float. None: all have.
    """
    planner = _Planner(model, assignment, rules)
    while True:
        result = planner.make()
        missing = {v for v in result.roots.values() if has_range is not None and not has_range(range_name(v))}
        if not missing:
            return result
        # Whatever touches a value without a range stays float; the others are planned anew.
        for unit in result.units:
            touched = [*unit.results, *(unit.node.inputs[i] for i in unit.inputs)]
            if any(v is not None and result.roots.get(v) in missing for v in touched):
                planner.banned.add(unit.node)


class _Planner:
    def __init__(self, model: ir.Model, assignment: Assignment, rules: Rules) -> None:
        self._graph = model.graph
        self._rules = rules
        self._floats = layers.float_values(model)
        self._schemes = {n: assignment.get(name) for n, name in layers.layer_names(model).items()}
        self._main = set(model.graph)
        self._moved: set[ir.Node] = set()  # float data moved: integers are moved instead where all consumers want them
        self.banned: set[ir.Node] = set()

    def make(self) -> Plan:
        self._moved.clear()
        forward = self._forward()
        kept = self._backward(forward)
        units = [kept[n] for n in self._graph if n in kept]
        roots: dict[ir.Value, ir.Value] = {}
        for unit in units:
            for i in unit.inputs:
                value = unit.node.inputs[i]
                assert value is not None
                roots.setdefault(value, value)
            if unit.quantized_output:
                first = unit.node.inputs[0]
                for result in unit.results:
                    roots[result] = roots[first] if unit.same_scale and first is not None else result
        return Plan(units, roots, {root: layers.useful_range(root) for root in roots.values()})

    def _forward(self) -> dict[ir.Node, Unit]:
        """Nodes whose inputs could be integers."""
        units: dict[ir.Node, Unit] = {}
        integer: set[ir.Value] = set()  # results of units
        for node in self._graph:
            unit = self._candidate(node, integer)
            if unit is None:
                continue
            units[node] = unit
            if unit.same_scale and node.inputs[0] not in integer:
                self._moved.add(node)
            else:
                integer.update(unit.results)
        return units

    def _candidate(self, node: ir.Node, integer: set[ir.Value]) -> Unit | None:
        scheme, kind, rules = self._schemes.get(node), node.op_type, self._rules
        if scheme is None or node in self.banned or not layers.is_onnx(node) or not rules.accepts(node):
            return None
        if any(v not in self._floats for v in node.outputs):
            return None
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            return None  # dead code
        if kind in rules.weighted:
            first = node.inputs[0]
            if layers.weight_of(node) is None or first not in self._floats or not _bias_fits(node):
                return None
            return Unit(node, scheme, (0,), activation=self._absorbable(node))
        inputs = [(i, v) for i, v in layers.activation_inputs(node) if v in self._floats]
        if kind in rules.same_scale and inputs:
            return Unit(node, scheme, (0,), same_scale=True)
        if kind not in rules.own_scale or not any(v in integer for _, v in inputs):
            return None
        operands = node.inputs[1:] if kind == "Where" else node.inputs
        if len(inputs) < len(operands) and kind in layers.BINARY | {"Concat", "Where"}:
            return None  # a constant operand would be rounded to eight bits as well
        joined = self._joined(node) if kind == "Add" and rules.joins_sums else None
        return Unit(node, scheme, tuple(i for i, _ in inputs if i != joined), activation=self._absorbable(node))

    def _joined(self, node: ir.Node) -> int | None:
        """The operand of a sum whose Conv the sum is computed in: the last one that nothing else reads."""
        position = {v.producer(): i for i, v in enumerate(node.inputs) if v is not None and len(v.uses()) == 1}
        found = [n for n in self._graph if n in position and n.op_type == "Conv" and layers.weight_of(n) is not None]
        return position[found[-1]] if found and not found[-1].outputs[0].is_graph_output() else None

    def _absorbable(self, node: ir.Node) -> ir.Node | None:
        result = node.outputs[0]
        consumers = result.consumers()
        if result.is_graph_output() or len(consumers) != 1 or len(node.outputs) != 1:
            return None
        activation = consumers[0]
        wanted = activation in self._main and layers.is_onnx(activation) and self._schemes.get(activation) is not None
        if not wanted or activation.op_type not in self._rules.absorbed or activation.inputs[0] is not result:
            return None
        return activation if layers.clip_bounds(activation) is not None else None

    def _backward(self, forward: dict[ir.Node, Unit]) -> dict[ir.Node, Unit]:
        """Keep what an integer consumer wants; weighted layers always."""
        kept: dict[ir.Node, Unit] = {}
        for node in reversed(list(self._graph)):
            unit = forward.get(node)
            if unit is None:
                continue
            wanted = self._wanted(unit, kept)
            if node.op_type in self._rules.weighted:
                if not any(wanted) and node.op_type in self._rules.float_output:
                    unit.quantized_output, unit.activation = False, None
                kept[node] = unit
            elif all(wanted) if node in self._moved else any(wanted):
                kept[node] = unit
        return kept

    def _wanted(self, unit: Unit, kept: dict[ir.Node, Unit]) -> list[bool]:
        """For each use of its results, whether an integer unit takes it as an activation; a graph output doesn't."""
        answers = []
        for result in unit.results:
            for use in result.uses():
                consumer = kept.get(use.node)
                answers.append(consumer is not None and use.idx in consumer.inputs)
            answers += [False] * result.is_graph_output()
        return answers


def _bias_fits(node: ir.Node) -> bool:
    """Whether the bias is absent or a constant that int32 can hold, one value per output channel (or one for all)."""
    weight = layers.constant_tensor(node.inputs[1])
    assert weight is not None
    if not np.isfinite(weight.numpy()).all():
        return False
    bias = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    if bias is None:
        return True
    array = layers.constant(bias)
    if array is None or array.dtype != np.float32 or not (np.abs(array) <= BIAS_LARGEST).all():
        return False
    channels = layers.output_channels(node, tuple(int(d) for d in weight.shape))  # type: ignore[arg-type]
    return array.size in (1, channels) and (array.size == 1 or array.shape[-1] == channels)
