"""An embedding table in integers: how it is stored, and the nodes that take rows of it.

Eight bits are int8. Fewer are packed into bytes in planes, because operators on int4 are few (Gather is not among them)
and five or six bits have no type at all: four bits a feature in the first plane, the remaining one or two in a second.
A plane is taken apart by Floor, exact in float32: of each byte the low half is one feature, the high half another, and
so on; features are placed so that the halves need only be put side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgec.quantize.weights.edit import Editor
from edgec.quantize.weights.groups import Grouped

# Bits of the planes of a format.
PLANES = {4: (4,), 5: (4, 1), 6: (4, 2)}


def pack(values: np.ndarray, bits: int) -> np.ndarray:
    """Unsigned integers of so many bits (a divisor of 8) into bytes along the last axis, 8 / bits to one."""
    shift = bits
    while shift < 8:
        half = values.shape[-1] // 2
        values = values[..., :half] | (values[..., half:] << shift)
        shift *= 2
    return values.astype(np.uint8)


def planes(made: Grouped) -> list[np.ndarray]:
    """The bytes of a table of fewer than eight bits: uint8 (rows, groups, width · bits of the plane / 8) a plane."""
    bits, width = made.format.bits, made.format.width(made.integers.shape[1])
    left = (made.integers - made.format.low).reshape(len(made.integers), -1, width)
    result = []
    for of_plane in PLANES[bits]:
        result.append(pack(left & (2**of_plane - 1), of_plane))
        left = left >> of_plane
    return result


class Rows:
    """Writes a table once and, for each Gather of it, the nodes that give the same rows.

    Args:
        editor: of the graph; the table's constants go in.
        name: of the float table.
        made: its integers, symmetric.
    """

    def __init__(self, editor: Editor, name: str, made: Grouped) -> None:
        self._editor, self._name = editor, name
        self._format, self._features = made.format, made.integers.shape[1]
        self._groups = made.scale.shape[1]
        width, bits = made.format.width(self._features), made.format.bits
        stored, scale = [made.integers.astype(np.int8).reshape(-1, self._groups, width)], made.scale
        if bits < 8:
            stored, scale = planes(made), made.scale.astype(np.float16)
        if self._groups == 1:
            stored = [plane[:, 0] for plane in stored]
        names = [f"{name}_int{bits}"] + [f"{name}_int{bits}_high"] * (len(stored) - 1)
        self.stored = [editor.constant(n, plane) for n, plane in zip(names, stored, strict=True)]
        self._scale = editor.constant(f"{name}_scale", scale if self._groups == 1 else scale[:, :, None])
        self._numbers: dict[str, ir.Value] = {}
        self._nodes: list[ir.Node] = []
        self._prefix = ""

    def nodes(self, gather: ir.Node) -> Sequence[ir.Node]:
        """What stands for a Gather of the float table; the last node gives its result."""
        ids, result, source = gather.inputs[1], gather.outputs[0], gather.inputs[0]
        wanted = result.dtype or (None if source is None else source.dtype)
        self._nodes, self._prefix = [], str(result.name)
        value = self._unpacked(ids)
        scale = self._add("Gather", [self._scale, ids], "scale", axis=0)
        if scale.dtype == ir.DataType.FLOAT16:
            scale = self._cast(scale, "scale_float")
        value = self._add("Mul", [value, scale], "dequantized")
        if self._groups > 1:
            rank = 0 if ids is None or ids.shape is None else ids.shape.rank()
            shape = np.array([0] * rank + [self._features], np.int64)
            self._add("Reshape", [value, self._number(f"row_shape_{rank}", shape)], "row")
        if wanted == ir.DataType.FLOAT16:
            last = self._nodes[-1].outputs[0]
            self._add("Cast", [last], "half", to=int(wanted))
        return self._nodes

    def _unpacked(self, ids: ir.Value | None) -> ir.Value:
        """The integers of the rows, as floats."""
        parts = []
        for k, plane in enumerate(self.stored):
            taken = self._add("Gather", [plane, ids], f"plane{k}", axis=0)
            parts.append(self._cast(taken, f"plane{k}_float"))
        if self._format.bits == 8:
            return parts[0]
        value = None
        for part, bits in zip(parts, PLANES[self._format.bits], strict=True):
            shift = 4
            while shift >= bits:
                part = self._halves(part, shift)
                shift //= 2
            if value is None:
                value = part
            else:
                sixteen = self._number("times_16", np.array(16, np.float32))
                value = self._add("Add", [value, self._add("Mul", [part, sixteen], "high_bits")], "all_bits")
        assert value is not None
        middle = self._number("middle", np.array(-self._format.low, np.float32))
        return self._add("Sub", [value, middle], "signed")

    def _halves(self, value: ir.Value, shift: int) -> ir.Value:
        """Low and high bits of each number, side by side."""
        step = 2**shift
        down = self._number(f"over_{step}", np.array(1 / step, np.float32))
        up = self._number(f"times_{step}", np.array(step, np.float32))
        high = self._add("Floor", [self._add("Mul", [value, down], "shifted")], "high")
        low = self._add("Sub", [value, self._add("Mul", [high, up], "high_part")], "low")
        return self._add("Concat", [low, high], "halves", axis=-1)

    def _cast(self, value: ir.Value, suffix: str) -> ir.Value:
        return self._add("Cast", [value], suffix, to=int(ir.DataType.FLOAT))

    def _add(self, op_type: str, inputs: Sequence[ir.Value | None], suffix: str, **attributes: int) -> ir.Value:
        first = inputs[0]
        kind = ir.DataType(attributes["to"]) if "to" in attributes else None if first is None else first.dtype
        node = self._editor.node(op_type, inputs, f"{self._prefix}_{suffix}", dict(attributes), kind=kind)
        self._nodes.append(node)
        return node.outputs[0]

    def _number(self, name: str, array: np.ndarray) -> ir.Value:
        if name not in self._numbers:
            self._numbers[name] = self._editor.constant(f"{self._name}_{name}", array)
        return self._numbers[name]
