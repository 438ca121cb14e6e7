"""ConvTranspose that only enlarges, as a convolution: onnxruntime has no integer kernel for it, but for this.

    ConvTranspose(x, w), kernel = stride = s  ->  Transpose, Reshape, Transpose, Reshape, Transpose of Conv1×1(x, w′)

With the kernel as large as the stride no two products meet: each input pixel gives s × s output pixels of its own, a
1×1 convolution to s·s·M channels and a move (Shi et al. 2016, "Real-Time Single Image and Video Super-Resolution Using
an Efficient Sub-Pixel Convolutional Neural Network", arXiv:1609.05158, section 3.2). Written as DepthToSpace the move
takes longer than the product (1.5 ns an element); with channels last it copies whole pixels, and the transposes at both
ends meet those that onnxruntime puts around QLinearConv, and vanish. Between two int8 convolutions on an AMD Zen 4, one
thread: 24 to 24 channels 2.7 ×, 128 to 64 3.1 ×, 256 to 128 3.8 × the speed of the three layers in float; left as
ConvTranspose between them, 1.0–1.7 × (`benchmarks/int8_upsample.py`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement.plan import RANGE_OF
from edgec.quantize.scheme import Assignment

_MOVED = layers.ACTIVATIONS | layers.POINTWISE


def upsampling_as_convolution(model: ir.Model, assignment: Assignment) -> None:
    """Rewrite what is to be quantized, in place; names of layers stay, the moves are added to the assignment.

    1. Two-dimensional, one group, constant weight and bias, kernel = strides, no pads, no output padding, and the
       input's height and width known.
    2. An activation that alone reads the result goes before the moves, where the convolution takes it in.
    3. A result that is an output of the graph is left alone: it would have to be converted back at once.
    """
    for node, name in layers.layer_names(model).items():
        scheme = assignment.get(name)
        size = _size(node) if scheme is not None else None
        if size is None:
            continue
        activation = _activation(model, node)
        if (activation or node).outputs[0].is_graph_output():
            continue
        _rewrite(model, node, name, activation, size)
        result = (activation or node).outputs[0]
        for step in _STEPS:
            assignment[f"{result.name}_{step}"] = scheme


_STEPS = ("last", "split", "moved", "joined", "first")


def _size(node: ir.Node) -> tuple[int, int] | None:
    """Height and width of the input of a ConvTranspose that only enlarges, else None."""
    weight = layers.weight_of(node)
    if node.op_type != "ConvTranspose" or weight is None or weight.shape is None or len(weight.shape) != 4:
        return None
    kernel = [int(d) for d in weight.shape[2:]]  # type: ignore[arg-type]
    expected = {"strides": kernel, "pads": [0] * 4, "output_padding": [0] * 2, "dilations": [1] * 2}
    for key, wanted in expected.items():
        attribute = node.attributes.get(key)
        default = [1, 1] if key == "strides" else wanted
        if (default if attribute is None else list(attribute.as_ints())) != wanted:
            return None
    group, pad = node.attributes.get("group"), node.attributes.get("auto_pad")
    plain = (group is None or group.as_int() == 1) and (pad is None or pad.as_string() in ("NOTSET", "VALID"))
    if not plain or "output_shape" in node.attributes:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and layers.constant_tensor(node.inputs[2]) is None:
        return None
    x = node.inputs[0]
    dims = x.shape[2:] if x is not None and x.shape is not None and len(x.shape) == 4 else ()
    if len(dims) != 2 or not all(isinstance(d, int) for d in dims):
        return None
    return int(dims[0]), int(dims[1])  # type: ignore[arg-type]


def _activation(model: ir.Model, node: ir.Node) -> ir.Node | None:
    """The element-wise function of this result alone that alone reads it."""
    result = node.outputs[0]
    consumers = result.consumers()
    if result.is_graph_output() or len(result.uses()) != 1 or not layers.is_onnx(consumers[0]):
        return None
    candidate = consumers[0]
    if candidate.graph is not model.graph or candidate.op_type not in _MOVED or candidate.inputs[0] is not result:
        return None
    return None if candidate.op_type == "Clip" and layers.clip_bounds(candidate) is None else candidate


def _rewrite(model: ir.Model, node: ir.Node, name: str, activation: ir.Node | None, size: tuple[int, int]) -> None:
    graph, weight = model.graph, layers.constant(node.inputs[1])
    assert weight is not None
    channels, (tall, wide) = weight.shape[1], weight.shape[2:]
    result = (activation or node).outputs[0]
    # Output channels by place in the block, then by channel: with channels last, a pixel is one piece.
    kernels = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0], 1, 1))
    inputs = [node.inputs[0], _constant(graph, f"{node.inputs[1].name}_1x1", kernels)]  # type: ignore[union-attr]
    bias = layers.constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if bias is not None:
        repeated = np.tile(bias.reshape(-1), tall * wide)
        inputs.append(_constant(graph, f"{node.inputs[2].name}_1x1", repeated))  # type: ignore[union-attr]
    conv = ir.Node("", "Conv", inputs, name=name)
    value, made = _named(conv, node.outputs[0], "dense", node.outputs[0]), [conv]
    if activation is not None:
        taken = [value, *activation.inputs[1:]]
        moved = ir.Node("", activation.op_type, taken, list(activation.attributes.values()), name=activation.name)
        value = _named(moved, result, "dense", result)
        made.append(moved)
    height, width = size
    split = _constant(graph, f"{result.name}_split_shape", np.array([-1, height, width, tall, wide, channels]))
    join = _constant(graph, f"{result.name}_joined_shape", np.array([-1, height * tall, width * wide, channels]))
    for step, kind, more, perm in (
        ("last", "Transpose", [], [0, 2, 3, 1]),
        ("split", "Reshape", [split], None),
        ("moved", "Transpose", [], [0, 1, 3, 2, 4, 5]),
        ("joined", "Reshape", [join], None),
        ("first", "Transpose", [], [0, 3, 1, 2]),
    ):
        attributes = [] if perm is None else [ir.AttrInt64s("perm", perm)]
        move = ir.Node("", kind, [value, *more], attributes, name=f"{result.name}_{step}")
        value = _named(move, result, step, None)
        made.append(move)
    graph.insert_before(activation or node, made)
    value.shape = result.shape
    ir.convenience.replace_all_uses_with(result, value)
    if activation is not None:
        graph.remove(activation, safe=True)
    unused = [v for v in node.inputs[1:] if v is not None and v.name in graph.initializers]
    graph.remove(node, safe=True)
    value.name = result.name
    for old in unused:
        if not old.uses() and not old.is_graph_output() and old.name is not None:
            del graph.initializers[old.name]


def _named(node: ir.Node, like: ir.Value, word: str, range_of: ir.Value | None) -> ir.Value:
    """A node's result with a name after another value's; `range_of`: it takes the values of that one."""
    value = node.outputs[0]
    value.name, value.type = f"{like.name}_{word}", like.type
    if range_of is not None:
        value.metadata_props[RANGE_OF] = str(range_of.name)
    return value


def _constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    tensor = ir.Tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(value)
    return value
