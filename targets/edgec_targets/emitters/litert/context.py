"""What the writer of one operator sees: inputs as tensors of the file in the layout it wants, where results go."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec_targets.emitters.litert.codes import BINARY
from edgec_targets.emitters.litert.file import File, Quantization, Tensor
from edgec_targets.emitters.litert.integers import real, signed
from edgec_targets.emitters.litert.layout import Layouts, order
from edgec_targets.emitters.litert.registry import Perm, Refusal, identity
from edgec_targets.emitters.litert.values import array, given, rank, shape, stored

_DTYPES = {
    ir.DataType.FLOAT: "float32",
    ir.DataType.FLOAT16: "float32",  # computed in float32, as engines without half precision kernels do
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
    ir.DataType.INT32: "int32",
    ir.DataType.INT64: "int64",
    ir.DataType.BOOL: "bool",
}
_HALF_FROM = 64
"""Elements: smaller constants stay float32 in a float16 file; a DEQUANTIZE would cost more than it saves."""


class Context:
    """State of one file's writing: which tensors hold which value, in which layouts."""

    def __init__(
        self,
        file: File,
        layouts: Layouts,
        quantities: Mapping[ir.Value, Quantization],
        *,
        half: bool = False,
        dynamic: bool = False,
        exact: bool = False,
    ) -> None:
        self.file = file
        self.layouts = layouts
        self.quantities = quantities
        self.dynamic, self.exact = dynamic, exact
        self.notes: list[str] = []
        self._half = half
        self._held: dict[ir.Value, dict[Perm, Tensor]] = {}
        self._widened: dict[int, Tensor] = {}

    # -- values -----------------------------------------------------------------------------------------------------

    def dtype(self, value: ir.Value | None) -> str:
        """NumPy's name of the type that a value has in the file. Raises Refusal for types that TFLite lacks."""
        if value is not None and value in self.quantities:
            return self.quantities[value].dtype
        found = _DTYPES.get(value.dtype) if value is not None and value.dtype is not None else None
        if found is None:
            known = "unknown" if value is None or value.dtype is None else value.dtype.name
            raise Refusal(
                f"The type of '{value.name if value else ''}' is {known}, which TFLite's operators don't take."
            )
        return found

    def quantized(self, value: ir.Value | None) -> bool:
        """Whether a value is an integer that stands for a real number."""
        return value in self.quantities

    def perm(self, node: ir.Node) -> Perm:
        """The layout chosen for a `Tied` or `Moved` node."""
        for value in node.outputs:  # without a shape, no layout was chosen: say so
            shape(value)
        return self.layouts.nodes[node]

    def note(self, node: ir.Node, words: str) -> None:
        """Something about a node's numbers that a reader of the report should know."""
        self.notes.append(f"{node.name or node.outputs[0].name}: {words}")

    def put(self, value: ir.Value, perm: Perm, tensor: Tensor) -> None:
        """Say that `tensor` holds `value` in layout `perm`."""
        self._held.setdefault(value, {})[perm] = tensor

    def held(self, value: ir.Value) -> bool:
        """Whether the value has been written (or is a constant)."""
        return value in self._held or array(value) is not None

    def get(self, value: ir.Value | None, perm: Perm | None = None) -> Tensor:
        """The tensor that holds a value in layout `perm` (default: ONNX's), converted if need be."""
        if value is None:
            raise Refusal("An input that TFLite needs is left out.")
        if array(value) is not None and value not in self._held:
            return self._constant(value, perm)
        wanted = identity(rank(value)) if perm is None else perm
        layouts = self._held.get(value)
        if layouts is None:
            raise Refusal(f"'{value.name}' comes from a node that can't be written.", "See the other nodes named.")
        if wanted not in layouts:
            # A reshape of what is there beats a transposition; of several, the first that was written.
            like = next((p for p in layouts if order(value, p) == order(value, wanted)), next(iter(layouts)))
            layouts[wanted] = self._convert(value, layouts[like], like, wanted)
        return layouts[wanted]

    def input(self, node: ir.Node, index: int, perm: Perm | None = None) -> Tensor:
        """Input `index` of a node, see `get`."""
        return self.get(given(node, index), perm)

    def tied(self, node: ir.Node, index: int) -> Tensor:
        """An input of a `Tied` node in the node's own layout; lower ranks and constants are fitted to broadcast."""
        value, perm = given(node, index), self.perm(node)
        if value is None:
            raise Refusal("An input that TFLite needs is left out.")
        dims = shape(value)
        if len(dims) == len(perm) and stored(value) is None:
            return self.get(value, perm)
        padded = (1,) * (len(perm) - len(dims)) + dims
        source = stored(value)
        data = array(source)
        if data is not None and source is not value and source is not None:
            return self.constant(self.fit(real(data, self.quantities[source]), perm))
        if data is None:
            if perm != identity(len(perm)) and sum(d != 1 for d in dims) > 1:
                raise Refusal(f"'{value.name}' has fewer axes than the result, and they are in another order.")
            tensor = self.get(value)
            fitted = tuple(padded[a] for a in perm)
            return tensor if fitted == padded else self.reshape(tensor, fitted)
        return self.constant(self.fit(data, perm), value)

    def fit(self, data: np.ndarray, perm: Perm) -> np.ndarray:
        """A constant that broadcasts against ONNX's axes, for a tensor of layout `perm`; leading ones are left out."""
        moved = data.reshape((1,) * (len(perm) - data.ndim) + data.shape).transpose(perm)
        while moved.ndim > 1 and moved.shape[0] == 1:
            moved = moved[0]
        return moved

    def result(
        self, node: ir.Node, perm: Perm | None = None, index: int = 0, dims: Iterable[int] | None = None
    ) -> Tensor:
        """A new tensor for result `index` of a node in layout `perm`; `dims` is its shape in the file if another."""
        value = node.outputs[index]
        local = identity(rank(value)) if perm is None else perm
        own = shape(value)
        name = value.name or ""
        made = self.file.tensor(
            [own[a] for a in local] if dims is None else dims, self.dtype(value), self.quantities.get(value), name
        )
        if dims is None:
            self.put(value, local, made)
        return made

    # -- constants --------------------------------------------------------------------------------------------------

    def _constant(self, value: ir.Value, perm: Perm | None) -> Tensor:
        data = array(value)
        assert data is not None
        return self.constant(data if perm is None or perm == identity(data.ndim) else data.transpose(perm), value)

    def constant(self, data: np.ndarray, value: ir.Value | None = None) -> Tensor:
        """A constant of the file, with the quantization of `value`, float16 widened by the engine at load."""
        quantization = self.quantities.get(value) if value is not None else None
        if quantization is not None:
            return self.file.constant(signed(data), quantization)
        if data.dtype == np.float64:
            raise Refusal("It has a constant of type double, which TFLite's operators don't take.")
        if data.dtype.name not in set(_DTYPES.values()) | {"float16"}:
            raise Refusal(f"It has a constant of type {data.dtype.name}, which TFLite's operators don't take.")
        narrow = self._half and data.dtype == np.float32 and data.size >= _HALF_FROM
        if narrow and np.abs(data).max(initial=0) <= np.finfo(np.float16).max:
            data = data.astype(np.float16)
        if data.dtype == np.float16:
            if data.size < _HALF_FROM:
                return self.file.constant(data.astype(np.float32))
            return self.widened(self.file.constant(data))
        return self.file.constant(data)

    def widened(self, tensor: Tensor) -> Tensor:
        """The float32 form of a float16 or int8 tensor."""
        if tensor.index not in self._widened:
            made = self.file.tensor(tensor.shape, "float32")
            self.file.operate("DEQUANTIZE", [tensor], [made], "DequantizeOptions")
            self._widened[tensor.index] = made
        return self._widened[tensor.index]

    def numbers(self, values: Sequence[int] | np.ndarray | range) -> Tensor:
        """An int32 constant: axes, shapes, paddings."""
        return self.file.constant(np.asarray(values, np.int32))

    def scalar(self, value: float) -> Tensor:
        """A float32 constant without axes."""
        return self.file.constant(np.asarray(value, np.float32))

    # -- operators --------------------------------------------------------------------------------------------------

    def op(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        dims: Iterable[int],
        options: str | None = None,
        *,
        dtype: str | None = None,
        quantization: Quantization | None = None,
        out: Tensor | None = None,
        **fields: Any,
    ) -> Tensor:
        """Append an operator with one result: `out`, or a new tensor (type and quantization of the first input)."""
        first = inputs[0]
        assert first is not None
        same = dtype is None or dtype == first.dtype
        made = out or self.file.tensor(
            dims, dtype or first.dtype, quantization or (first.quantization if same else None)
        )
        self.file.operate(code, inputs, [made], options, **fields)
        return made

    def broadcast(self, code: str, a: Tensor, b: Tensor, out: Tensor | None = None, **fields: Any) -> Tensor:
        """ADD, SUB, MUL, DIV, MAXIMUM … of two tensors."""
        dims = np.broadcast_shapes(a.shape, b.shape)
        return self.op(code, [a, b], dims, BINARY.get(code), out=out, **fields)

    def unary(
        self, code: str, a: Tensor, out: Tensor | None = None, options: str | None = None, **fields: Any
    ) -> Tensor:
        """An operator of one input whose result has its shape."""
        return self.op(code, [a], a.shape, options, out=out, **fields)

    def reshape(self, tensor: Tensor, dims: Iterable[int], out: Tensor | None = None) -> Tensor:
        """The same elements in another shape; reshapes in a row become one."""
        dims = tuple(int(d) for d in dims)
        before = self.file.producer(tensor)
        while before is not None and before.code == "RESHAPE" and before.inputs[0] is not None:
            tensor = before.inputs[0]
            before = self.file.producer(tensor)
        if tensor.shape == dims and out is None:
            return tensor
        return self.op(
            "RESHAPE", [tensor, self.numbers(dims)], dims, "ReshapeOptions", out=out, newShape=np.array(dims, np.int32)
        )

    def transpose(self, tensor: Tensor, perm: Sequence[int], out: Tensor | None = None) -> Tensor:
        """Result axis k is the tensor's axis perm[k]. A reshape where only axes of length one move."""
        perm = tuple(perm)
        dims = [tensor.shape[a] for a in perm]
        long = [a for a in perm if tensor.shape[a] != 1]
        if long == sorted(long):
            return self.reshape(tensor, dims, out)
        # TFLite's kernels take six axes; neighbours that stay neighbours count as one.
        if len(perm) > _AXES:
            raise Refusal(f"It transposes {len(perm)} axes; TFLite takes {_AXES}.")
        return self.op("TRANSPOSE", [tensor, self.numbers(perm)], dims, "TransposeOptions", out=out)

    def _convert(self, value: ir.Value, tensor: Tensor, has: Perm, wanted: Perm) -> Tensor:
        return self.transpose(tensor, [has.index(a) for a in wanted])


_AXES = 6
