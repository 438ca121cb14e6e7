"""What onnxruntime's CPU provider fuses from Q/DQ into integer kernels.

Taken by building each operator between Q and DQ and looking at the graph that onnxruntime 1.32 made of it
(tests/quantize/test_placement_onnxruntime.py does so again for each entry, with the version installed):

- Conv (1-D to 3-D, grouped, depthwise) → QLinearConv, only with Q after it; Relu and Clip between are dropped.
- MatMul, Gemm with constant weights → QLinearMatMul, QGemm with Q after them; without, MatMulIntegerToFloat and
  QGemm with float output.
- Add, Mul → QLinearAdd, QLinearMul; Concat → QLinearConcat; AveragePool, GlobalAveragePool, Sigmoid, LeakyRelu →
  QLinear… of com.microsoft. Sub, Div, Max, Min, HardSigmoid, HardSwish, Tanh, Gelu, ReduceMean: no integer kernel.
- MaxPool, Reshape, Transpose, Flatten, Squeeze, Unsqueeze, Slice, Split, Gather, Expand, Tile, DepthToSpace,
  ReduceMax and nearest Resize run on the integers themselves when Q has DQ's scale. Linear Resize, Pad, SpaceToDepth,
  GlobalMaxPool: not.
- ConvTranspose has no integer kernel: quantized it would run in float with Q/DQ on top.
- MatMul of two activations has one, but costs accuracy (attention) more than it gives: left in float.
"""

from __future__ import annotations

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement.rules import Rules
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


def _matmul_add_to_gemm(model: ir.Model, assignment: Assignment) -> None:
    """MatMul(x, W) + b -> Gemm(x, W, b) where x is a matrix, W and b are constants and the layer is to be quantized.

    onnxruntime makes a float Gemm of it otherwise, before it looks at Q/DQ; and the bias joins the accumulator.
    """
    for node, name in layers.layer_names(model).items():
        weight = layers.weight_of(node)
        if node.op_type != "MatMul" or assignment.get(name) is None or weight is None or weight.shape is None:
            continue
        x, product = node.inputs[0], node.outputs[0]
        consumers = product.consumers()
        if x is None or x.shape is None or len(x.shape) != 2 or product.is_graph_output() or len(consumers) != 1:
            continue
        add = consumers[0]
        if add.op_type != "Add" or not layers.is_onnx(add) or add.graph is not model.graph or len(add.inputs) != 2:
            continue
        bias = add.inputs[1] if add.inputs[0] is product else add.inputs[0]
        tensor = layers.constant_tensor(bias)
        if tensor is None or tuple(tensor.shape) != (weight.shape[1],):
            continue
        gemm = ir.Node("", "Gemm", [x, weight, bias], name=name)
        model.graph.insert_before(add, gemm)
        result, new = add.outputs[0], gemm.outputs[0]
        new.type, new.shape = result.type, result.shape
        result.replace_all_uses_with(new, replace_graph_outputs=True)
        model.graph.remove([add, node], safe=True)
        new.name = result.name


RULES = Rules(
    engine="onnxruntime",
    weighted=frozenset({"Conv", "Gemm", "MatMul"}),
    float_output=frozenset({"Gemm", "MatMul"}),
    own_scale=frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "LeakyRelu", "Mul", "Sigmoid"}),
    same_scale=frozenset(
        {
            *("DepthToSpace", "Expand", "Flatten", "Gather", "MaxPool", "ReduceMax", "Reshape", "Resize", "Slice"),
            *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
        }
    ),
    absorbed=frozenset({"Clip", "Relu"}),
    accepts=_accepts,
    prepare=_matmul_add_to_gemm,
)
