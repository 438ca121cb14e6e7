"""What TensorRT builds integer kernels from: explicit quantization, symmetric int8.

NVIDIA, "Working with Quantized Types" (TensorRT developer guide, explicit quantization), and what its parser says:

- zero points are 0 ("Non-zero zero point is not supported"), activations and weights int8, weights one scale per
  channel; integer weights with a DequantizeLinear are taken;
- biases are float: a DequantizeLinear of int32 is refused;
- Q/DQ go on what a Conv, Gemm or MatMul *reads*; its result goes into Relu or Clip in float, where TensorRT fuses both
  into the integer kernel; nothing is quantized behind a layer whose result stays float (the last one);
- an Add of a residual block joins the last convolution before it, whose result is not quantized: Q/DQ there would part
  the two. Its other operand is, so that the joint kernel reads integers ("quantize the residual input");
- the stem stays float: a convolution of at most four channels, depthwise ones right behind it, and the pointwise one of
  at most 32 channels behind those. Integer tensor cores take channels by 32, so there is little to gain, and its noise
  goes through the whole model (EfficientNet-Lite0 gains 5 dB for 4 % of the multiplications);
- a dense layer stays float where padding takes more than integers give: tensor cores want channels in multiples of 32
  for int8 and of 8 for float16 (developer guide, "Optimizing for Tensor Cores"), and TensorRT pads. 16 → 16 channels
  become 32 → 32: four times the products at twice the rate (ResNet-8's first block, 3 dB of the model's noise);
- the head stays float where it has under 32 outputs: its noise goes straight into the answer;
- pools, reshapes and transposes need none: TensorRT moves Q and DQ across them itself.
"""

from __future__ import annotations

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.placement.centre import centre
from edgec.quantize.placement.rules import Rules
from edgec.quantize.scheme import Scheme

_FEW = 4  # channels of an image, and one more
_BLOCK, _HALF_BLOCK = 32, 8  # channels that a tensor core takes at once, of int8 and of float16
_RATE = 2  # products of int8 in the time of one of float16
_TO_ANSWER = frozenset({"Flatten", "Identity", "LogSoftmax", "Reshape", "Sigmoid", "Softmax", "Squeeze"})


def _accepts(node: ir.Node) -> bool:
    if node.op_type in ("Gemm", "MatMul"):
        weight = layers.weight_of(node)
        known = weight is not None and weight.shape is not None and len(weight.shape) == 2
        return known and not _head(node) and not _padded_away(node)
    return node.op_type != "Conv" or not (_stem(node) or _padded_away(node))


def _padded_away(node: ir.Node) -> bool:
    """Whether padding to whole blocks costs a dense layer more than integers gain; grouped ones have other kernels."""
    weight = layers.weight_of(node)
    if weight is None or weight.shape is None or (node.op_type == "Conv" and _form(node)[0] != 1):
        return False
    shape = tuple(int(d) for d in weight.shape)  # type: ignore[arg-type]
    outputs = layers.output_channels(node, shape)
    inputs = shape[1] if node.op_type == "Conv" else shape[0] * shape[1] // outputs

    def products(block: int) -> int:
        return -(-inputs // block) * -(-outputs // block) * block**2

    return products(_BLOCK) > _RATE * products(_HALF_BLOCK)


def _stem(node: ir.Node) -> bool:
    """Whether a Conv reads few channels, or the result of such a Conv depthwise, or of those pointwise."""
    pointwise = True  # nothing but one dense layer may follow the depthwise ones
    while True:
        groups, channels = _form(node)
        if groups == 1 and channels <= _FEW:
            return True
        if groups == 1 and pointwise and channels <= _BLOCK:
            before = _conv_before(node)
            if before is None or _form(before)[0] == 1:
                return False
        elif groups > 1 and channels == 1:
            before = _conv_before(node)
        else:
            return False
        if before is None:
            return False
        node, pointwise = before, False


def _head(node: ir.Node) -> bool:
    """Whether a product has few outputs and all of them are the model's, or probabilities made of them."""
    weight = layers.weight_of(node)
    shape = () if weight is None or weight.shape is None else tuple(int(d) for d in weight.shape)  # type: ignore[arg-type]
    if not shape or layers.output_channels(node, shape) >= _BLOCK:
        return False
    pending, ends = list(node.outputs), 0
    while pending:
        value = pending.pop()
        ends += value.is_graph_output()
        for consumer in value.consumers():
            constant = any(layers.constant_tensor(v) is not None for v in consumer.inputs)
            if consumer.op_type not in _TO_ANSWER and not (consumer.op_type == "Add" and constant):
                return False
            pending += consumer.outputs
    return ends > 0


def _form(node: ir.Node) -> tuple[int, int]:
    """Groups of a Conv, and input channels of each; (0, 0) where the weight is not constant."""
    weight, group = layers.weight_of(node), node.attributes.get("group")
    if weight is None or weight.shape is None:
        return 0, 0
    return 1 if group is None else group.as_int(), int(weight.shape[1])  # type: ignore[arg-type]


def _conv_before(node: ir.Node) -> ir.Node | None:
    """The Conv whose result, through activations, a node reads."""
    value = node.inputs[0]
    while value is not None and (producer := value.producer()) is not None and layers.is_onnx(producer):
        if producer.op_type == "Conv":
            return producer
        if producer.op_type not in layers.ACTIVATIONS:
            return None
        value = producer.inputs[0]
    return None


RULES = Rules(
    engine="tensorrt",
    weighted=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    float_output=frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"}),
    own_scale=frozenset({"Add"}),
    same_scale=frozenset(),
    absorbed=frozenset({"Clip", "Relu"}),
    accepts=_accepts,
    equivalent=centre,
    scheme=Scheme(activation="int8", symmetric_activation=True),
    symmetric=True,
    joins_sums=True,
    float_bias=True,
)
