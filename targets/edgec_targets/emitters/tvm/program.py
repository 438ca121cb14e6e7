"""A lowered module as a list of kernel calls on places in memory: what TVM's machine would find out at run time.

Reshapes are other names of the same memory. Values that are alive at different times share memory: each gets the
lowest place that is free during its life, the largest first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tvm
from tvm import relax

from edgec_targets.emitters.tvm.refused import Refused

ALIGNMENT = 64
"""Bytes: what TVM's kernels take for granted of each tensor."""

Place = Literal["arena", "weights", "input", "output"]


@dataclass(frozen=True)
class Tensor:
    """A value: `dtype` and `shape` as TVM has them; `root` is the number of the memory that it lies in."""

    root: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A kernel ("" copies the first to the second) and its arguments, inputs first."""

    kernel: str
    arguments: tuple[Tensor, ...]


@dataclass
class Program:
    """What runs, in order. `places`: root -> where it is and at which offset (of inputs and outputs: which one)."""

    calls: list[Call]
    inputs: list[Tensor]
    outputs: list[Tensor]
    constants: dict[int, np.ndarray]
    places: dict[int, tuple[Place, int]]
    arena: int = 0


def program(module: Any) -> Program:
    """The program of `module`'s "main". Raises Refused for what is no kernel call: control flow, free shapes."""
    return _Reader().read(module["main"])


class _Reader:
    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        self.bytes: dict[int, int] = {}
        self.made = Program([], [], [], {}, {})

    def read(self, main: Any) -> Program:
        for index, parameter in enumerate(main.params):
            tensor = self._new(parameter.ty)
            self.values[parameter] = tensor
            self.made.inputs.append(tensor)
            self.made.places[tensor.root] = ("input", index)
        for block in main.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = self._value(binding)
        body = main.body.body
        found = self._known(body)
        self.made.outputs = list(found) if isinstance(found, tuple) else [found]
        self._place_outputs()
        self._place_rest()
        return self.made

    def _value(self, binding: Any) -> Any:
        value = getattr(binding, "value", None)
        if isinstance(value, relax.Call):
            name = getattr(value.op, "name", "")
            if name == "relax.call_tir" and len(value.args) == 2:
                inputs = tuple(self._flat(value.args[1]))
                made = self._new(binding.var.ty)
                outputs = made if isinstance(made, tuple) else (made,)
                self.made.calls.append(Call(str(value.args[0].name_hint), (*inputs, *outputs)))
                return made
            if name == "relax.reshape":
                source = self._known(value.args[0])
                return Tensor(source.root, source.dtype, _shape(binding.var.ty))
            raise Refused("", "", f"TVM keeps {name or 'a call'} for run time, where no payload has TVM")
        return self._known(value)

    def _known(self, value: Any) -> Any:
        if isinstance(value, relax.Tuple):
            return tuple(self._known(field) for field in value.fields)
        if isinstance(value, relax.TupleGetItem):
            return self._known(value.tuple_value)[value.index]
        if isinstance(value, tvm.ir.GenericConst):
            data = value.value.numpy()
            tensor = self._new(value.ty)
            self.made.constants[tensor.root] = data
            return tensor
        if value in self.values:
            return self.values[value]
        raise Refused("", "", f"TVM keeps a {type(value).__name__} for run time, where no payload has TVM")

    def _flat(self, arguments: Any) -> list[Tensor]:
        found = []
        for value in arguments.fields if isinstance(arguments, relax.Tuple) else [arguments]:
            known = self._known(value)
            found += list(known) if isinstance(known, tuple) else [known]
        return found

    def _new(self, kind: Any) -> Any:
        if isinstance(kind, relax.TupleType):
            return tuple(self._new(field) for field in kind.fields)
        shape = _shape(kind)
        dtype = str(kind.dtype)
        root = len(self.bytes)
        self.bytes[root] = math.prod(shape) * math.ceil(np.dtype(_NUMPY.get(dtype, dtype)).itemsize)
        return Tensor(root, dtype, shape)

    def _place_outputs(self) -> None:
        """Kernels write outputs where the caller wants them; an output that is an input, or twice there, is copied."""
        made, taken = self.made, set(self.made.places) | set(self.made.constants)
        for index, output in enumerate(made.outputs):
            if output.root in taken:
                copy = Tensor(len(self.bytes), output.dtype, output.shape)
                self.bytes[copy.root] = self.bytes[output.root]
                made.calls.append(Call("", (output, copy)))
                made.outputs[index] = copy
            taken.add(made.outputs[index].root)
            made.places[made.outputs[index].root] = ("output", index)

    def _place_rest(self) -> None:
        made, offset = self.made, 0
        for root, data in made.constants.items():
            made.places[root] = ("weights", offset)
            offset += _up(data.nbytes)
        life: dict[int, list[int]] = {}
        for when, call in enumerate(made.calls):
            for tensor in call.arguments:
                if tensor.root not in made.places:
                    life.setdefault(tensor.root, [when, when])[1] = when
        placed: list[tuple[int, int, int, int]] = []  # first, last, from, to
        for root in sorted(life, key=lambda r: (-self.bytes[r], r)):
            first, last = life[root]
            size, start = _up(self.bytes[root]), 0
            for _, _, begin, end in sorted((p for p in placed if p[0] <= last and first <= p[1]), key=lambda p: p[2]):
                if start + size <= begin:
                    break
                start = max(start, end)
            placed.append((first, last, start, start + size))
            made.places[root] = ("arena", start)
            made.arena = max(made.arena, start + size)


_NUMPY = {"bfloat16": "uint16"}


def _up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _shape(kind: Any) -> tuple[int, ...]:
    shape = getattr(kind, "shape", None)
    if shape is None or not hasattr(shape, "values"):
        raise Refused("", "", "TVM finds a shape that depends on values")
    if not all(isinstance(size, tvm.tirx.IntImm) for size in shape.values):
        raise Refused("", "", f"TVM finds a shape that is not fixed: {shape}")
    return tuple(int(size) for size in shape.values)
