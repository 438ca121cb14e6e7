"""A program as C tables (model.c) and one blob of weights, which driver.c runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from edgec_targets.emitters.tvm.program import ALIGNMENT, Program, Tensor

SPREAD = "__threads"
"""Ends the name of a kernel's form for several threads: on one, that form takes up to a third longer."""
_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}
"""DLDataTypeCode of dlpack.h."""


def blob(program: Program) -> bytes:
    """All constants, each at its offset."""
    size = max((program.places[root][1] + data.nbytes for root, data in program.constants.items()), default=0)
    made = bytearray(size + ALIGNMENT)
    for root, data in program.constants.items():
        start = program.places[root][1]
        made[start : start + data.nbytes] = np.ascontiguousarray(data).tobytes()
    return bytes(made)


def tables(program: Program, names: tuple[Sequence[str], Sequence[str]], *, spread: Collection[str]) -> str:
    """model.c; `names` are the inputs' and the outputs', `spread` the kernels that have a form for several threads."""
    shapes: dict[tuple[int, ...], str] = {}
    arguments, steps = [], []
    for call in program.calls:
        for tensor in call.arguments:
            shapes.setdefault(tensor.shape, f"shape_{len(shapes)}")
            place, offset = program.places[tensor.root]
            code, bits = _type(tensor.dtype)
            name = shapes[tensor.shape]
            strides = f"strides_{name[6:]}" if tensor.shape else "0"
            shown = name if tensor.shape else "0"
            arguments.append(
                f"{{IN_{place.upper()}, {offset}, {len(tensor.shape)}, {code}, {bits}, {shown}, {strides}}}"
            )
        kernel = f"__tvm_ffi_{call.kernel}" if call.kernel else "0"
        threads = f"{kernel}{SPREAD}" if call.kernel in spread else "0"
        steps.append(f"{{{kernel}, {threads}, {len(call.arguments)}, {_bytes(call.arguments[0])}}}")
    kernels = sorted({call.kernel for call in program.calls if call.kernel})
    kernels += [f"{name}{SPREAD}" for name in kernels if name in spread]
    lines = ['#include "driver.h"']
    lines += [f"extern int __tvm_ffi_{name}(void *, Any *, int32_t, Any *);" for name in kernels]
    for shape, name in shapes.items():
        if shape:
            lines.append(f"static const int64_t {name}[] = {{{', '.join(map(str, shape))}}};")
            steps_of = [math.prod(shape[n + 1 :]) for n in range(len(shape))]
            lines.append(f"static const int64_t strides_{name[6:]}[] = {{{', '.join(map(str, steps_of))}}};")
    described = [_line("i", *pair) for pair in zip(names[0], program.inputs, strict=True)]
    described += [_line("o", *pair) for pair in zip(names[1], program.outputs, strict=True)]
    lines += [
        f"const char model_tensors[] = {_quoted(''.join(described))};",
        f"const uint64_t model_arena = {program.arena};",
        f"const Argument model_arguments[] = {{{', '.join(arguments) or '{0}'}}};",
        f"const int32_t model_argument_count = {len(arguments)};",
        f"const Step model_steps[] = {{{', '.join(steps) or '{0}'}}};",
        f"const int32_t model_step_count = {len(steps)};",
        f"const int32_t model_parallel = {int(bool(spread))};",
    ]
    return "\n".join(lines) + "\n"


def _type(dtype: str) -> tuple[int, int]:
    if dtype == "bool":
        return _CODES["bool"], 8
    kind = dtype.rstrip("0123456789")
    return _CODES[kind], int(dtype[len(kind) :])


def _bytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * (_type(tensor.dtype)[1] // 8)


def _line(side: str, name: str, tensor: Tensor) -> str:
    return f"{side} {tensor.dtype} {'x'.join(map(str, tensor.shape)) or '-'} {name}\n"


def _quoted(text: str) -> str:
    """A C string of the UTF-8 bytes: any name is safe in it."""
    return '"' + "".join(f"\\{byte:03o}" for byte in text.encode()) + '"'
