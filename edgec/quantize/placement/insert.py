"""Writing a plan into the graph: Q/DQ pairs, integer weights and biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgec.errors import UnsupportedError
from edgec.quantize import layers
from edgec.quantize.arithmetic import Affine, activation_parameters, quantize_weight
from edgec.quantize.placement.plan import RANGE_OF, Plan, Unit, range_name
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Scheme

_WIDE_OPSET = 21


def insert(model: ir.Model, plan: Plan, ranges: Ranges, *, min_opset: int, float_bias: bool = False) -> None:
    """Quantize the planned units of a model in place.

    Args:
        model: the model that was planned.
        plan: what becomes integer.
        ranges: of the values that the plan needs.
        min_opset: as the engine's rules say.
        float_bias: leave biases in float, and give layers without one zeros.

    Raises:
        UnsupportedError: the model's opset has no per-channel DequantizeLinear.
    """
    opset = model.graph.opset_imports.get("", 0)
    if opset < _WIDE_OPSET and any(unit.scheme.wide for unit in plan.units):
        raise UnsupportedError(
            f"opset {opset} can't hold activations of 16 bits",
            f"QuantizeLinear gives int16 and uint16 from opset {_WIDE_OPSET} on",
            f"convert the model to opset {_WIDE_OPSET} (the front end does)",
            code="E411",
        )
    if plan.units and opset < min_opset:
        raise UnsupportedError(
            f"opset {opset} can't hold per-channel integer weights",
            f"DequantizeLinear has an axis from opset {min_opset} on",
            "convert the model to opset 21 (the front end does)",
            code="E411",
        )
    writer = _Writer(model.graph, plan, ranges, float_bias)
    for unit in plan.units:
        writer.unit(unit)
    writer.finish()


@dataclass(frozen=True)
class _Parameters:
    affine: Affine
    scale: ir.Value
    zero_point: ir.Value


class _Writer:
    def __init__(self, graph: ir.Graph, plan: Plan, ranges: Ranges, float_bias: bool) -> None:
        self._float_bias = float_bias
        self._graph, self._plan, self._ranges = graph, plan, ranges
        self._names = {v.name for n in graph.all_nodes() for v in n.outputs}
        self._names |= {v.name for v in graph.inputs} | set(graph.initializers)
        # Outputs get renamed on the way.
        self._root_names = {root: range_name(root) for root in plan.roots.values()}
        self._affine: dict[ir.Value, _Parameters] = {}  # dequantized value -> its parameters
        self._made: dict[tuple[object, ...], _Parameters] = {}
        self._twins: dict[tuple[ir.Value, Scheme], ir.Value] = {}  # float value -> its dequantized twin
        self._weights: dict[tuple[object, ...], ir.Value] = {}
        self._replaced: dict[ir.Value, None] = {}

    def unit(self, unit: Unit) -> None:
        node = unit.node
        for i in unit.inputs:
            value = node.inputs[i]
            assert value is not None
            if value not in self._affine:
                node.replace_input_with(i, self._on_edge(value, unit))
        if layers.weight_of(node) is not None:
            self._weighted(unit)
        if unit.quantized_output:
            for result in unit.results:
                self._behind(unit, result)

    def finish(self) -> None:
        """Drop the float constants that nobody uses any more, and what was noted for the plan."""
        for result in (v for node in self._graph for v in node.outputs):
            result.metadata_props.pop(RANGE_OF, None)
        for value in self._replaced:
            producer = value.producer()
            if value.uses() or value.is_graph_output():
                continue
            if producer is not None:
                self._graph.remove(producer, safe=True)
            elif value.name is not None and value.name in self._graph.initializers:
                del self._graph.initializers[value.name]

    def _on_edge(self, value: ir.Value, unit: Unit) -> ir.Value:
        """A float value, quantized for integer consumers only."""
        twin = self._twins.get((value, unit.scheme))
        if twin is None:
            nodes, twin = self._pair(value, str(value.name), self._parameters(value, unit))
            self._graph.insert_before(unit.node, nodes)
            self._twins[value, unit.scheme] = twin
        return twin

    def _behind(self, unit: Unit, result: ir.Value) -> None:
        """Q/DQ behind an integer unit; all other consumers read the dequantized value, else the engine can't fuse."""
        first = unit.node.inputs[0]
        assert first is not None
        parameters = self._affine[first] if unit.same_scale else self._parameters(result, unit)
        name, raw, last = str(result.name), result, unit.activation or unit.node
        if unit.activation is not None and _saturates(unit.activation, parameters.affine):
            raw, last = unit.node.outputs[0], unit.node
            self._bypass(unit.activation, raw)
        uses = list(raw.uses())
        nodes, twin = self._pair(raw, name, parameters)
        self._graph.insert_after(last, nodes)
        for use in uses:
            # Shape needs no values: asking the integers saves the engine a conversion to float.
            integers = nodes[0].outputs[0]
            use.node.replace_input_with(use.idx, integers if use.node.op_type == "Shape" else twin)
        for i, output in enumerate(self._graph.outputs):
            if output is result:
                result.name = self._free(f"{name}_float")
                twin.name, twin.type, twin.shape = name, result.type, result.shape
                self._graph.outputs[i] = twin

    def _bypass(self, activation: ir.Node, raw: ir.Value) -> None:
        """Remove an activation: its consumers read the layer before it."""
        for use in list(activation.outputs[0].uses()):
            use.node.replace_input_with(use.idx, raw)
        for i, value in enumerate(list(activation.inputs)):
            if value is not None:
                self._replaced.setdefault(value)
            activation.replace_input_with(i, None)
        self._graph.remove(activation)

    def _parameters(self, value: ir.Value, unit: Unit) -> _Parameters:
        source = self._plan.roots[value]
        root, useful = self._root_names[source], self._plan.useful[source]
        key = (root, unit.scheme.activation, unit.scheme.symmetric_activation)
        if key not in self._made:
            low, high = np.clip(self._ranges[root], *useful)
            affine = activation_parameters(low, high, unit.scheme)
            self._made[key] = _Parameters(
                affine,
                self._constant(f"{root}_scale", np.asarray(affine.scale, np.float32)),
                self._constant(f"{root}_zero_point", np.asarray(affine.zero_point, affine.dtype)),
            )
        return self._made[key]

    def _pair(self, value: ir.Value, name: str, parameters: _Parameters) -> tuple[list[ir.Node], ir.Value]:
        constants = [parameters.scale, parameters.zero_point]
        quantize = self._node("QuantizeLinear", [value, *constants], f"{name}_quantized")
        dequantize = self._node("DequantizeLinear", [quantize.outputs[0], *constants], f"{name}_dequantized")
        twin = dequantize.outputs[0]
        self._affine[twin] = parameters
        return [quantize, dequantize], twin

    def _weighted(self, unit: Unit) -> None:
        node = unit.node
        source = node.inputs[1]
        weight = layers.constant(source)
        assert source is not None and weight is not None and node.inputs[0] is not None
        bias_value = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
        bias = layers.constant(bias_value)
        if node.op_type == "Gemm":
            weight, bias = _fold_gemm(node, weight, bias)
        channels = layers.output_channels(node, weight.shape)
        if bias is not None:
            bias = np.broadcast_to(bias.reshape(-1) if bias.size > 1 else bias.reshape(()), (channels,))
        axis = layers.weight_axis(node, weight.ndim) if unit.scheme.per_channel else None
        scale = self._affine[node.inputs[0]].affine.scale
        q = quantize_weight(
            weight,
            axis=axis,
            qmax=unit.scheme.weight_max,
            bias=None if self._float_bias else bias,
            activation_scale=scale,
        )
        self._replaced.setdefault(source)
        node.replace_input_with(1, self._integer(unit, str(source.name), source, q.data, q.scale, axis))
        if self._float_bias:
            if node.op_type != "MatMul":
                self._keep_bias(node, np.zeros(channels, np.float32) if bias is None else bias)
        elif bias_value is not None:
            assert q.bias is not None and q.bias_scale is not None
            self._replaced.setdefault(bias_value)
            bias_axis = 0 if q.bias_scale.ndim else None
            twin = self._integer(unit, str(bias_value.name), bias_value, q.bias, q.bias_scale, bias_axis)
            node.replace_input_with(2, twin)

    def _keep_bias(self, node: ir.Node, bias: np.ndarray) -> None:
        """A float bias of the layer's own, one value a channel."""
        old = node.inputs[2] if len(node.inputs) > 2 else None
        if old is not None:
            self._replaced.setdefault(old)
        name = f"{node.outputs[0].name}_bias" if old is None else f"{old.name}_channels"
        node.resize_inputs(3)
        node.replace_input_with(2, self._constant(name, np.ascontiguousarray(bias, np.float32)))

    def _integer(
        self, unit: Unit, name: str, source: ir.Value, data: np.ndarray, scale: np.ndarray, axis: int | None
    ) -> ir.Value:
        """The dequantized twin of a constant; shared by layers that would make the very same."""
        key = (source, axis, scale.tobytes(), data.tobytes())
        if key not in self._weights:
            inputs = [
                self._constant(f"{name}_quantized", data),
                self._constant(f"{name}_scale", scale),
                *self._weight_zero_point(name, scale, data),
            ]
            node = self._node("DequantizeLinear", inputs, f"{name}_dequantized", axis)
            self._graph.insert_before(unit.node, node)
            self._weights[key] = node.outputs[0]
        return self._weights[key]

    def _weight_zero_point(self, name: str, scale: np.ndarray, data: np.ndarray) -> list[ir.Value]:
        """Zero. A bias does without (absent means zero): four bytes a channel."""
        if data.dtype == np.int32:
            return []
        return [self._constant(f"{name}_zero_point", np.zeros(scale.shape, data.dtype))]

    def _node(self, kind: str, inputs: list[ir.Value], output: str, axis: int | None = None) -> ir.Node:
        attributes = [] if axis is None else [ir.AttrInt64("axis", axis)]
        node = ir.Node("", kind, inputs, attributes)
        name = self._free(output)
        node.name, node.outputs[0].name = name, name
        return node

    def _constant(self, name: str, array: np.ndarray) -> ir.Value:
        name = self._free(name)
        tensor = ir.Tensor(array, name=name)
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
        self._graph.register_initializer(value)
        return value

    def _free(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self._names:
            candidate, n = f"{name}_{n}", n + 1
        self._names.add(candidate)
        return candidate


def _saturates(activation: ir.Node, affine: Affine) -> bool:
    """Whether Q's own saturation does all that the activation does: its range lies within the bounds.

    Half a step of slack: a bound nearer than that to the range's end is rounded to it anyway.
    """
    bounds = layers.clip_bounds(activation)
    slack = affine.scale / 2
    return bounds is not None and affine.low >= bounds[0] - slack and affine.high <= bounds[1] + slack


def _fold_gemm(node: ir.Node, weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Move alpha and beta into weight and bias: integer kernels want both to be 1."""
    alpha, beta = (node.attributes.get(k) for k in ("alpha", "beta"))
    if alpha is not None:
        weight = weight * np.float32(alpha.as_float())
        node.attributes["alpha"] = ir.AttrFloat32("alpha", 1.0)
    if beta is not None:
        bias = None if bias is None else bias * np.float32(beta.as_float())
        node.attributes["beta"] = ir.AttrFloat32("beta", 1.0)
    return weight, bias
