"""A TFLite file in the making: tensors, operators and buffers of one subgraph, then its bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgec_runtime.errors import UnsupportedError
from edgec_targets.emitters.litert import packing
from edgec_targets.emitters.litert.schema import schema
from edgec_targets.emitters.litert.versions import version

_LIMIT = (1 << 31) - 1
"""Bytes: flatbuffers' offsets are 32 bits, signed."""


@dataclass(frozen=True)
class Quantization:
    """real = scale · (integer − zero_point); one value a tensor, or one for each index of `axis`.

    `bits` are 8, or 16: activations of TFLite's int16x8 kernels.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0
    bits: int = 8

    @property
    def dtype(self) -> str:
        """NumPy's name of the integers' type in the file."""
        return f"int{self.bits}"


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of the file: shape in the file's own order of axes, NumPy's name of the type.

    `data` is what a constant holds.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """Elements."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Operation:
    """One operator of the file."""

    code: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    options: str | None
    fields: Mapping[str, Any]


class File:
    """Collects a subgraph. Equal constants are stored once; what no output needs is left out of the bytes."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.operations: list[Operation] = []
        self._names: dict[int, str] = {}
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        self._producers: dict[int, Operation] = {}

    def tensor(
        self, shape: Iterable[int], dtype: str, quantization: Quantization | None = None, name: str = ""
    ) -> Tensor:
        """A new activation."""
        return self._add(Tensor(len(self.tensors), tuple(int(d) for d in shape), dtype, quantization), name)

    def constant(self, array: np.ndarray, quantization: Quantization | None = None) -> Tensor:
        """A constant; the same one for the same content."""
        array = np.asarray(array, order="C")
        key = (array.dtype.name, array.shape, quantization, packing.digest(array))
        if key not in self._constants:
            made = Tensor(len(self.tensors), array.shape, array.dtype.name, quantization, array)
            self._constants[key] = self._add(made, "")
        return self._constants[key]

    def name(self, tensor: Tensor, name: str) -> None:
        """Give a tensor its name in the file."""
        self._names[tensor.index] = name

    def operate(
        self,
        code: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        options: str | None = None,
        **fields: Any,
    ) -> None:
        """Append an operator; `options` is the schema's options table, `fields` its values."""
        made = Operation(code, tuple(inputs), tuple(outputs), options, fields)
        self.operations.append(made)
        for tensor in outputs:
            self._producers[tensor.index] = made

    def producer(self, tensor: Tensor) -> Operation | None:
        """The operator that makes `tensor`."""
        return self._producers.get(tensor.index)

    def _add(self, tensor: Tensor, name: str) -> Tensor:
        self.tensors.append(tensor)
        if name:
            self._names[tensor.index] = name
        return tensor

    def needed(self, outputs: Sequence[Tensor]) -> list[Operation]:
        """Operators that the outputs depend on, in order."""
        wanted = {t.index for t in outputs}
        kept = []
        for operation in reversed(self.operations):
            if any(t.index in wanted for t in operation.outputs):
                kept.append(operation)
                wanted |= {t.index for t in operation.inputs if t is not None}
        return kept[::-1]

    def finish(self, inputs: Sequence[tuple[str, Tensor]], outputs: Sequence[tuple[str, Tensor]]) -> bytes:
        """The file's bytes, the same each time. `inputs` and `outputs` get these names, in this order.

        Raises UnsupportedError (E430) where the format's 2 GiB don't hold the model.
        """
        s = schema()
        operations = self.needed([t for _, t in outputs])
        for name, tensor in (*inputs, *outputs):
            self._names[tensor.index] = name
        used = {t.index for _, t in (*inputs, *outputs)}
        used |= {t.index for o in operations for t in (*o.inputs, *o.outputs) if t is not None}
        tensors = [t for t in self.tensors if t.index in used]
        if sum(t.data.nbytes for t in tensors if t.data is not None) > _LIMIT - (64 << 20):
            raise UnsupportedError(
                "the model is too large for a TFLite file",
                "The format holds 2 GiB.",
                "Use int8 or float16 weights, or the onnxruntime payload.",
                code="E430",
            )
        numbers = {t.index: n for n, t in enumerate(tensors)}
        model, graph = s.ModelT(), s.SubGraphT()
        model.version, model.description = 3, "edgec"
        model.buffers = [s.BufferT()]  # number 0 is empty by convention: "no data"
        buffers: dict[bytes, int] = {}
        graph.name, graph.tensors = "main", []
        for tensor in tensors:
            made = s.TensorT()
            made.name = self._names.get(tensor.index, "")
            made.shape, made.hasRank = np.array(tensor.shape, np.int32), True
            made.type = getattr(s.TensorType, tensor.dtype.upper())
            made.quantization = packing.quantization(s, tensor.quantization)
            made.buffer = packing.buffer(s, model, buffers, tensor.data)
            graph.tensors.append(made)
        model.operatorCodes, graph.operators = _operators(s, operations, numbers)
        graph.inputs = np.array([numbers[t.index] for _, t in inputs], np.int32)
        graph.outputs = np.array([numbers[t.index] for _, t in outputs], np.int32)
        model.subgraphs = [graph]
        model.signatureDefs = [packing.signature(s, numbers, inputs, outputs)]
        return packing.packed(model)

    def counts(self, outputs: Sequence[Tensor]) -> Counter[str]:
        """How often each operator is in the file."""
        return Counter(o.code for o in self.needed(outputs))


def _operators(s: Any, operations: Sequence[Operation], numbers: Mapping[int, int]) -> tuple[list[Any], list[Any]]:
    needs: dict[str, int] = {}
    for o in operations:
        given = [t for t in (*o.inputs, *o.outputs) if t is not None]
        own = version(o.code, [t.dtype for t in given], [len(t.shape) for t in given])
        needs[o.code] = max(needs.get(o.code, 1), own)
    codes = []
    for name, number in needs.items():
        code = s.OperatorCodeT()
        code.builtinCode, code.version = getattr(s.BuiltinOperator, name), number
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # PLACEHOLDER_FOR_GREATER_OP_CODES
        codes.append(code)
    order = list(needs)
    made = []
    for o in operations:
        operator = s.OperatorT()
        operator.opcodeIndex = order.index(o.code)
        operator.inputs = np.array([-1 if t is None else numbers[t.index] for t in o.inputs], np.int32)
        operator.outputs = np.array([numbers[t.index] for t in o.outputs], np.int32)
        if o.options is not None:
            operator.builtinOptionsType = getattr(s.BuiltinOptions, o.options)
            operator.builtinOptions = getattr(s, f"{o.options}T")()
            for key, value in o.fields.items():
                setattr(operator.builtinOptions, key, value)
        made.append(operator)
    return codes, made
