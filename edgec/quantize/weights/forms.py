"""How integer weights are written into a graph.

*qdq* (standard ONNX, opset 21): a product gets DequantizeLinear with the blocks along the input axis. ONNX Runtime
makes a MatMulNBits of it, which rounds the activations to eight bits by block and multiplies integers: faster than
float and small in memory, but the activations' rounding bounds the accuracy (30 dB on MiniLM).

*folded* (standard ONNX): Cast and Mul of constants. ONNX Runtime computes them when it loads the model: the file is
small, speed, memory and arithmetic are those of floats. Whatever is no product is always written so, since a
DequantizeLinear there would be computed again at every call (measured with 1.32; docs/quantization_weights.md).

*nbits*: products are com.microsoft MatMulNBits from the start, as the runtime makes them of *qdq*.

*auto*: qdq for products of four bits with activations of three axes and more, folded for the rest.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgec.quantize.weights.edit import Editor
from edgec.quantize.weights.groups import Grouped, blocks
from edgec.quantize.weights.targets import Target

Form = Literal["auto", "qdq", "nbits", "folded"]
CONTRIB = "com.microsoft"
# Blocks that MatMulNBits takes: powers of two from 16 on.
BLOCKS = frozenset(2**k for k in range(4, 16))

_TYPES = {
    (8, True): ir.DataType.INT8,
    (8, False): ir.DataType.UINT8,
    (4, True): ir.DataType.INT4,
    (4, False): ir.DataType.UINT4,
}


def write(editor: Editor, target: Target, made: Grouped, form: Form = "auto", accuracy_level: int = 4) -> None:
    """Put integers in the place of a weight.

    Args:
        editor: of the graph.
        target: the weight.
        made: its integers.
        form: see the module.
        accuracy_level: of MatMulNBits (nbits): 4 multiplies int8 activations, 1 float32 ones.
    """
    if form == "auto":
        form = "folded" if made.format.bits == 8 or not _stays_product(target) else "qdq"
    if not target.product or form == "folded":
        _folded(editor, target, made)
    elif form == "nbits" and made.format.group in (0, *BLOCKS):
        _nbits(editor, target, in_blocks(made), accuracy_level)
    else:
        _dequantized(editor, target, made)
    editor.drop(target.value)


def _stays_product(target: Target) -> bool:
    """Whether ONNX Runtime surely sees the product behind a DequantizeLinear.

    Of a matrix times a matrix it first makes a FusedGemm with the Add and the activation that follow, and computes the
    DequantizeLinear at every call. It leaves products of more axes alone.
    """
    shapes = [node.inputs[0].shape if node.inputs[0] is not None else None for node, _ in target.uses]
    return all(s is not None and s.rank() > 2 for s in shapes)


def data_type(made: Grouped) -> ir.DataType:
    """The integers' type in the file."""
    return _TYPES[made.format.bits, made.format.symmetric]


def _store(array: np.ndarray, kind: ir.DataType) -> np.ndarray:
    """In the dtype of the file; integers of four bits stay int16, the editor packs them."""
    if kind in (ir.DataType.INT4, ir.DataType.UINT4):
        return array
    return array.astype(kind.numpy())


def _dequantized(editor: Editor, target: Target, made: Grouped) -> None:
    """DequantizeLinear of (features, rows), blocks along axis 0; one for each reader, of the same constants."""
    kind, name = data_type(made), target.name
    rows, features = made.integers.shape
    by_row = made.scale.shape[1] == 1
    inputs = [
        editor.constant(f"{name}_{kind.name.lower()}", _store(made.integers.T, kind), kind),
        editor.constant(f"{name}_scale", made.scale[:, 0] if by_row else np.ascontiguousarray(made.scale.T)),
    ]
    if not made.format.symmetric:
        zero = made.zero[:, 0] if by_row else np.ascontiguousarray(made.zero.T)
        inputs.append(editor.constant(f"{name}_zero_point", _store(zero, kind), kind))
    attributes: dict[str, int | float | str] = {"axis": 1}
    if not by_row:
        attributes = {"axis": 0, "block_size": made.format.width(features)}
    for reader, slot in target.uses:
        node = editor.node("DequantizeLinear", inputs, f"{name}_dequantized", attributes, kind=ir.DataType.FLOAT)
        node.outputs[0].shape = ir.Shape((features, rows))
        editor.graph.insert_before(reader, node)
        reader.replace_input_with(slot, node.outputs[0])
        if reader.op_type == "Gemm":
            reader.attributes["transB"] = ir.AttrInt64("transB", 0)


def _folded(editor: Editor, target: Target, made: Grouped) -> None:
    """Cast and Mul of constants, then the weight's own shape; one for all readers."""
    kind, name, format = data_type(made), target.name, made.format
    features = made.integers.shape[1]
    grouped = blocks(made.integers, format) if made.scale.shape[1] > 1 else made.integers[:, None]
    nodes: list[ir.Node] = []

    def add(op_type: str, inputs: list[ir.Value], suffix: str, **attributes: int) -> ir.Value:
        nodes.append(editor.node(op_type, inputs, f"{name}_{suffix}", dict(attributes), kind=ir.DataType.FLOAT))
        return nodes[-1].outputs[0]

    stored = editor.constant(f"{name}_{kind.name.lower()}", _store(grouped, kind), kind)
    value = add("Cast", [stored], "float", to=int(ir.DataType.FLOAT))
    if not format.symmetric:
        zero = editor.constant(f"{name}_zero_point", _store(made.zero[:, :, None], kind), kind)
        value = add("Sub", [value, add("Cast", [zero], "zero_float", to=int(ir.DataType.FLOAT))], "centred")
    value = add("Mul", [value, editor.constant(f"{name}_scale", made.scale[:, :, None])], "scaled")
    moved = [target.shape[i] for i in target.perm]
    if grouped.shape[1] * grouped.shape[2] != features:  # the last group was filled up
        value = add("Reshape", [value, _shape(editor, name, [len(grouped), -1])], "filled")
        cut = {"start": 0, "end": features, "axis": 1}
        ends = [editor.constant(f"{name}_{key}", np.array([at], np.int64)) for key, at in cut.items()]
        value = add("Slice", [value, *ends], "cut")
    value = add("Reshape", [value, _shape(editor, name, moved)], "shaped")
    if target.perm != tuple(range(len(moved))):
        back = [int(i) for i in np.argsort(target.perm)]
        nodes.append(editor.node("Transpose", [value], f"{name}_moved", kind=ir.DataType.FLOAT))
        nodes[-1].attributes["perm"] = ir.AttrInt64s("perm", back)
    dtype = target.value.dtype
    if dtype == ir.DataType.FLOAT16:
        nodes.append(editor.node("Cast", [nodes[-1].outputs[0]], f"{name}_half", {"to": int(dtype)}, kind=dtype))
    nodes[-1].outputs[0].shape = ir.Shape(target.shape)
    editor.graph.insert_before(next(iter(editor.graph)), nodes)
    for reader, slot in target.uses:
        reader.replace_input_with(slot, nodes[-1].outputs[0])


def _shape(editor: Editor, name: str, shape: list[int]) -> ir.Value:
    return editor.constant(f"{name}_shape", np.array(shape, np.int64))


def _nbits(editor: Editor, target: Target, made: Grouped, accuracy_level: int) -> None:
    """MatMulNBits in the place of MatMul, or of Gemm where it has no other effect than product and bias."""
    if any(node.op_type == "Gemm" and not _plain(node) for node, _ in target.uses):
        return _dequantized(editor, target, made)
    name, bits = target.name, made.format.bits
    rows, features = made.integers.shape
    packed, scale, zero = pack_nbits(made)
    constants = [editor.constant(f"{name}_{bits}bits", packed), editor.constant(f"{name}_scale", scale)]
    if zero is not None:
        constants.append(editor.constant(f"{name}_zero_point", zero))
    attributes: dict[str, int | float | str] = {"K": features, "N": rows, "bits": bits}
    attributes |= {"block_size": made.format.group, "accuracy_level": accuracy_level}
    for reader, _ in target.uses:
        inputs = [reader.inputs[0], *constants]
        bias = reader.inputs[2] if reader.op_type == "Gemm" and len(reader.inputs) > 2 else None
        result = str(reader.outputs[0].name)
        product = editor.node("MatMulNBits", inputs, f"{result}_product", attributes, domain=CONTRIB)
        nodes = [product]
        if bias is not None:
            product.outputs[0].type = reader.outputs[0].type
            nodes.append(editor.node("Add", [product.outputs[0], bias], f"{result}_sum"))
        editor.replace(reader, nodes)
    editor.graph.opset_imports.setdefault(CONTRIB, 1)
    return None


def in_blocks(made: Grouped, block: int = 32) -> Grouped:
    """The same weights with each row's scale given to all its blocks, where there is one scale a row."""
    if made.format.group:
        return made
    format = replace(made.format, group=block)
    count = format.groups(made.integers.shape[1])
    scale, zero = (np.repeat(a, count, axis=1) for a in (made.scale, made.zero))
    return Grouped(format, made.integers, scale, zero)


def _plain(node: ir.Node) -> bool:
    """Whether a Gemm is x · W + b."""
    found = {k: node.attributes.get(k) for k in ("alpha", "beta", "transA")}
    alpha, beta, trans = found["alpha"], found["beta"], found["transA"]
    return (
        (alpha is None or alpha.as_float() == 1)
        and (beta is None or beta.as_float() == 1)
        and (trans is None or trans.as_int() == 0)
    )


def pack_nbits(made: Grouped) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The inputs of MatMulNBits: packed integers, scales and zero points.

    Source: ONNX Runtime's operator documentation (docs/ContribOperators.md). Integers are unsigned, the zero point is
    2^(bits−1) where none is given; four bits: two to a byte, the first in the low half, zero points of a row likewise.

    Returns:
        uint8 (rows, groups, group · bits / 8), float32 (rows, groups), uint8 (rows, ⌈groups · bits / 8⌉) or None.
    """
    format = made.format
    middle = 2 ** (format.bits - 1) if format.symmetric else 0
    filled = made.zero[:, :, None] if not format.symmetric else 0
    grouped = blocks(made.integers, format)
    short = format.groups(made.integers.shape[1]) * format.group - made.integers.shape[1]
    integers = (grouped + middle).astype(np.uint8)
    if short and not format.symmetric:  # what fills the last group counts for nothing
        integers[:, -1, -short:] = np.broadcast_to(filled, grouped.shape)[:, -1, -short:]
    zero = None if format.symmetric else made.zero.astype(np.uint8)
    if format.bits == 4:
        integers = integers[..., 0::2] | (integers[..., 1::2] << 4)
        if zero is not None:
            even = np.pad(zero, ((0, 0), (0, zero.shape[1] % 2)))
            zero = (even[:, 0::2] | (even[:, 1::2] << 4)).astype(np.uint8)
    return integers, made.scale, zero
