"""Which values must keep the same scale by channel: chains of operators through which a positive factor passes.

f(t·x) = t·f(x) for t > 0 holds for Relu, LeakyRelu, PRelu, pools, pads with zeros, resizing; an Add or Max ties its
operands and its result together; a gate (squeeze and excite) lets its other operand's factor pass. A Clip lets it pass
while it doesn't cut. Everything else pins its values: their factor is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.corrections.equalize.linear import Linear, linear

_PASSES = frozenset({"Identity", "LeakyRelu", "Neg", "Relu"})
_POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"})
_TIES = frozenset({"Add", "Max", "Min", "Sub", "Sum"})


@dataclass
class Group:
    """Values that share a factor by channel.

    Attributes:
        values: in graph order.
        axis: of the channels.
        channels: how many.
        producers: layers whose outputs they are.
        consumers: layers that read them.
        clips: Clip nodes inside: the factor must not make them cut where they didn't.
        addends: constants that are added on the way: (node, index of the input).
    """

    values: list[ir.Value]
    axis: int
    channels: int
    producers: list[Linear] = field(default_factory=list)
    consumers: list[Linear] = field(default_factory=list)
    clips: list[ir.Node] = field(default_factory=list)
    addends: list[tuple[ir.Node, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """That of its first value."""
        return str(self.values[0].name)


def groups(model: ir.Model) -> list[Group]:
    """The groups of a float model with at least one layer before and one behind, in graph order.

    Args:
        model: with shapes (values of unknown rank or channels are pinned). The `Linear`s of one node are one object.
    """
    ties = _Ties(model)
    for node in model.graph:
        ties.node(node)
    for value in (*model.graph.inputs, *model.graph.outputs):
        ties.pin(value)
    return ties.groups()


class _Ties:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._parent: dict[ir.Value, ir.Value] = {}
        self._axis: dict[ir.Value, int] = {}  # of a root
        self._pinned: set[ir.Value] = set()  # roots
        self._linears: dict[ir.Node, Linear] = {}
        self._clips: list[ir.Node] = []
        self._addends: list[tuple[ir.Node, int, ir.Value]] = []
        self._order = {v: i for i, v in enumerate((*model.graph.inputs, *(o for n in model.graph for o in n.outputs)))}

    def node(self, node: ir.Node) -> None:
        for value in node.outputs:
            if any(use.node.graph is not self._graph for use in value.uses()):
                self.pin(value)  # read inside an If or a Loop
        if not layers.is_onnx(node) or not self._known(node):
            for touched in (*node.inputs, *node.outputs):
                self.pin(touched)

    def pin(self, value: ir.Value | None) -> None:
        if value is not None and value in self._order:
            self._pinned.add(self._root(value))

    def groups(self) -> list[Group]:
        """Those with a layer on each side."""
        found: dict[ir.Value, Group] = {}
        for value in self._order:
            root = self._root(value)
            axis = self._axis.get(root)
            channels = _channels(value, axis)
            if root in self._pinned or axis is None:
                continue
            if channels is None or found.setdefault(root, Group([], axis, channels)).channels != channels:
                self._pinned.add(root)  # an axis that was known too late shows that the shapes differ
                found.pop(root, None)
                continue
            found[root].values.append(value)
        for node, layer in self._linears.items():
            into, out = layer.channels
            source = node.inputs[0]
            assert source is not None
            if (group := found.get(self._root(source))) is not None and group.channels == into:
                group.consumers.append(layer)
            if (group := found.get(self._root(node.outputs[0]))) is not None and group.channels == out:
                group.producers.append(layer)
        for clip in self._clips:
            if (group := found.get(self._root(clip.outputs[0]))) is not None:
                group.clips.append(clip)
        for node, index, value in self._addends:
            if (group := found.get(self._root(value))) is not None:
                group.addends.append((node, index))
        return [g for g in found.values() if g.producers and g.consumers]

    def _known(self, node: ir.Node) -> bool:
        """Tie what the node ties; False where it is none of those understood."""
        kind, result = node.op_type, node.outputs[0]
        if kind in layers.WEIGHTED:
            return self._layer(node)
        if len(node.outputs) != 1 or not node.inputs or node.inputs[0] is None:
            return False
        activations = [v for v in node.inputs if v is not None and layers.constant_tensor(v) is None]
        if kind in _TIES and len(activations) > 1:
            same = len(activations) == len(node.inputs) and all(_same_rank(v, result) for v in activations)
            return same and all(self._tie(v, result) for v in activations)
        if len(activations) == 2 and kind == "Mul":  # a gate: one factor passes, the other must be one
            gate = next((v for v in activations if _is_gate(v)), None)
            data = next((v for v in activations if v is not gate), None)
            self.pin(gate)
            return gate is not None and data is not None and _same_rank(data, result) and self._tie(data, result)
        if len(activations) != 1:
            return False
        value = activations[0]
        if not self._moves(node) and not _same_rank(value, result):
            return False
        if kind in ("Add", "Sub"):
            index = next(i for i, v in enumerate(node.inputs) if v is not value)
            self._addends.append((node, index, result))
            return self._tie(value, result)
        if kind == "Mul" or (kind in ("Div", "PRelu") and node.inputs[0] is value):
            return self._tie(value, result)
        if kind == "Clip" and layers.clip_bounds(node) is not None:
            self._clips.append(node)
            return self._tie(value, result)
        return (kind in _PASSES or self._moves(node)) and self._tie(value, result)

    def _layer(self, node: ir.Node) -> bool:
        layer = linear(node)
        if layer is None or node.inputs[0] is None or layers.constant_tensor(node.inputs[0]) is not None:
            return False
        self._linears[node] = layer
        for value in (node.inputs[0], node.outputs[0]):
            rank = None if value.shape is None else len(value.shape)
            if rank is None:
                self.pin(value)
            else:
                self._set_axis(value, 1 if node.op_type in ("Conv", "ConvTranspose") else rank - 1)
        return True

    def _moves(self, node: ir.Node) -> bool:
        """Whether channels of axis 1 stay where they are, and values outside an image are zeros."""
        value, result, kind = node.inputs[0], node.outputs[0], node.op_type
        if value is None or value.shape is None or result.shape is None:
            return False
        if kind in _POOLS:
            return self._set_axis(value, 1)
        if kind in ("ReduceMean", "ReduceMax", "Flatten", "Reshape", "Squeeze", "Unsqueeze"):
            # Both shapes begin (batch, channels) and, reshaping, nothing follows but ones.
            shapes = [list(s) for s in (value.shape, result.shape)]
            rest = [d for s in shapes for d in s[2:]]
            moved = not kind.startswith("Reduce") and any(d != 1 for d in rest)
            if moved or any(len(s) < 2 or not isinstance(s[1], int) for s in shapes) or shapes[0][1] != shapes[1][1]:
                return False
            return self._set_axis(value, 1)
        if kind == "Pad":
            mode = node.attributes.get("mode")
            fill = layers.constant(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
            constant = mode is None or mode.as_string() == "constant"
            zeros = len(node.inputs) < 3 or node.inputs[2] is None or (fill is not None and not fill.any())
            return (zeros or not constant) and value.shape[1:2] == result.shape[1:2] and self._set_axis(value, 1)
        if kind == "Resize":
            return list(value.shape[:2]) == list(result.shape[:2]) and self._set_axis(value, 1)
        return False

    def _set_axis(self, value: ir.Value, axis: int) -> bool:
        root = self._root(value)
        if self._axis.setdefault(root, axis) != axis:
            self._pinned.add(root)
        return True

    def _tie(self, a: ir.Value, b: ir.Value) -> bool:
        shapes = [v.shape for v in (a, b)]
        if any(s is None for s in shapes):
            return False
        x, y = self._root(a), self._root(b)
        axes = {self._axis[r] for r in (x, y) if r in self._axis}
        if len(axes) > 1:
            return False
        axis = next(iter(axes), None)
        if axis is not None and _channels(a, axis) != _channels(b, axis):
            return False
        if x is not y:
            self._parent[y] = x
            if axis is not None:
                self._axis[x] = axis
            if y in self._pinned:
                self._pinned.add(x)
        return True

    def _root(self, value: ir.Value) -> ir.Value:
        while (parent := self._parent.get(value, value)) is not value:
            self._parent[value] = self._parent.get(parent, parent)
            value = parent
        return value


def _same_rank(a: ir.Value, b: ir.Value) -> bool:
    return a.shape is not None and b.shape is not None and len(a.shape) == len(b.shape)


def _is_gate(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type in ("Sigmoid", "HardSigmoid", "Softmax", "Clip")


def _channels(value: ir.Value, axis: int | None) -> int | None:
    if axis is None or value.shape is None or axis >= len(value.shape):
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None
