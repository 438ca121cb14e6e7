"""What onnxruntime's CPU provider fuses from Q/DQ into integer kernels.

Taken by building each operator between Q and DQ and looking at the graph that onnxruntime 1.32 made of it
(tests/quantize/test_placement_onnxruntime.py does so again for each entry, with the version installed):

- Conv (1-D to 3-D, grouped, depthwise) → QLinearConv, only with Q after it; Relu and Clip between are dropped.
- MatMul, Gemm with constant weights → QLinearMatMul, QGemm with Q after them; without, MatMulIntegerToFloat and
  QGemm with float output.
- Add, Mul → QLinearAdd, QLinearMul; Concat → QLinearConcat; AveragePool, GlobalAveragePool, Sigmoid, LeakyRelu →
  QLinear… of com.microsoft; Where of two activations → QLinearWhere. Sub, Div, Max, Min, HardSigmoid, HardSwish, Tanh,
  Gelu, ReduceMean: no integer kernel.
- MaxPool, Reshape, Transpose, Flatten, Squeeze, Unsqueeze, Slice, Split, Gather, GatherElements, Expand, Tile,
  DepthToSpace, ReduceMax, ReduceMin and nearest Resize run on the integers themselves when Q has DQ's scale. Linear
  Resize, Pad, SpaceToDepth, GlobalMaxPool: not.
- ConvTranspose has no integer kernel: quantized it would run in float with Q/DQ on top. One that only enlarges (kernel
  as large as stride) becomes a convolution and a move (`upsample.py`); others stay float.
- Softmax → QLinearSoftmax, which takes 5–7 times as long as in float (64 × 1000, one thread): left in float. Linear
  Resize on integers cuts instead of rounding (−0.46 of a step) and takes 2.4 times as long: left in float.
- MatMul of two activations has one, but costs accuracy (attention) more than it gives: left in float.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement.residual import unfused_residuals
from edgec.quantize.placement.rules import Rules
from edgec.quantize.placement.upsample import upsampling_as_convolution
from edgec.quantize.scheme import Assignment


def _accepts(node: ir.Node) -> bool:
    if node.op_type == "Resize":
        mode = node.attributes.get("mode")
        return mode is None or mode.as_string() == "nearest"
    if node.op_type == "MaxPool":
        return len(node.outputs) == 1  # with indices: no
    if node.op_type == "Gather":
        return layers.constant_tensor(node.inputs[0]) is None  # not an embedding table
    if node.op_type == "MatMul":
        weight = layers.weight_of(node)
        return weight is not None and weight.shape is not None and len(weight.shape) == 2
    return True


def _prepare(model: ir.Model, assignment: Assignment) -> None:
    _matmul_add_to_gemm(model, assignment)
    upsampling_as_convolution(model, assignment)
    unfused_residuals(model)


def _matmul_add_to_gemm(model: ir.Model, assignment: Assignment) -> None:
    """MatMul(x, W) + b -> Gemm(x, W, b) where W and b are constants and the layer is to be quantized.

    1. x is a matrix.
    2. x is a stack of matrices of fixed shape: with a Reshape before and after.

    Both are what onnxruntime does itself before it looks at Q/DQ, making a float Gemm that no longer fuses; and the
    bias joins the integer accumulator. A stack with a free dimension it leaves alone, and so do we.
    """
    matrices: dict[ir.Value, ir.Value] = {}
    for node, name in layers.layer_names(model).items():
        weight, x = layers.weight_of(node), node.inputs[0] if node.inputs else None
        if node.op_type != "MatMul" or assignment.get(name) is None or weight is None or weight.shape is None:
            continue
        add, bias = _constant_add(model, node, int(weight.shape[-1]))  # type: ignore[arg-type]
        if add is None or x is None or x.shape is None or len(weight.shape) != 2:
            continue
        result, graph = add.outputs[0], model.graph
        if len(x.shape) == 2:
            gemm = ir.Node("", "Gemm", [x, weight, bias], name=name)
            graph.insert_before(add, gemm)
            new = gemm.outputs[0]
        elif len(x.shape) > 2 and all(isinstance(d, int) for d in x.shape):
            dims = [int(d) for d in x.shape]  # type: ignore[arg-type]
            if x not in matrices:
                rows = f"{x.name}_rows"  # not "_matrix": x may be the result of such a product itself
                assignment[rows] = assignment[name]
                flat = _reshape(graph, x, [-1, dims[-1]], rows)
                graph.insert_before(node, flat)
                matrices[x] = flat.outputs[0]
            gemm = ir.Node("", "Gemm", [matrices[x], weight, bias], name=name)
            gemm.outputs[0].name, gemm.outputs[0].dtype = f"{result.name}_matrix", ir.DataType.FLOAT
            back = _reshape(graph, gemm.outputs[0], [*dims[:-1], int(weight.shape[1])], f"{result.name}_stack")  # type: ignore[arg-type]
            graph.insert_before(add, [gemm, back])
            new = back.outputs[0]
        else:
            continue
        new.type, new.shape = result.type, result.shape
        result.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove([add, node], safe=True)
        new.name = result.name


def _constant_add(model: ir.Model, node: ir.Node, channels: int) -> tuple[ir.Node | None, ir.Value | None]:
    """The Add of one constant per channel that alone reads a node's result, and that constant."""
    product = node.outputs[0]
    consumers = product.consumers()
    if product.is_graph_output() or len(consumers) != 1:
        return None, None
    add = consumers[0]
    if add.op_type != "Add" or not layers.is_onnx(add) or add.graph is not model.graph or len(add.inputs) != 2:
        return None, None
    bias = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
    tensor = layers.constant_tensor(bias)
    return (add, bias) if tensor is not None and tuple(tensor.shape) == (channels,) else (None, None)


def _reshape(graph: ir.Graph, value: ir.Value, shape: list[int], name: str) -> ir.Node:
    tensor = ir.Tensor(np.array(shape, np.int64), name=f"{name}_shape")
    constant = ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
    graph.register_initializer(constant)
    node = ir.Node("", "Reshape", [value, constant], name=name)
    node.outputs[0].name, node.outputs[0].dtype = name, ir.DataType.FLOAT
    return node


RULES = Rules(
    engine="onnxruntime",
    weighted=frozenset({"Conv", "Gemm", "MatMul"}),
    float_output=frozenset({"Gemm", "MatMul"}),
    own_scale=frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid", "Where"}),
    same_scale=frozenset(
        {
            *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "MaxPool", "ReduceMax", "ReduceMin"),
            *("Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
        }
    ),
    absorbed=frozenset({"Clip", "Relu"}),
    accepts=_accepts,
    prepare=_prepare,
    timed=frozenset({"x86_64"}),
)
