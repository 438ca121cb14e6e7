"""ONNX Runtime by its C interface: `libonnxruntime.so` alone, no numpy, no package imported.

Options are those of `onnxruntime.py`. Several models share the library, its environment and its threads:
`onnxruntime_api.py`.
"""

from __future__ import annotations

import os

from edgec_runtime.engines import base, native
from edgec_runtime.engines import onnxruntime_api as ort
from edgec_runtime.engines.foreign import byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from edgec_runtime.engines.library import Library, find
from edgec_runtime.engines.memory import Port, refuse, takes, trim
from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgec_runtime.payload import Payload

VARIABLE = "EDGEC_ONNXRUNTIME_LIBRARY"
NAME = "libonnxruntime.so"
OPTIONS = ("threads", "spinning", "arena", "optimization")
LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}  # GraphOptimizationLevel
TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
}  # fmt: skip
_NUMBERS = {name: number for number, name in TYPES.items()}


def library() -> Library | None:
    """The library that would be taken, or None."""
    return find(
        lambda name: name == NAME or (name.startswith(f"{NAME}.") and name[len(NAME) + 1 :][:1].isdigit()),
        variable=VARIABLE, package="onnxruntime", folder="capi", distribution="onnxruntime",
    )  # fmt: skip


class Executable(native.Executable):
    """A session. Inputs, and outputs whose shapes are known, lie in memory that is made once."""

    def __init__(self, api: ort.Api, file: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._api = api
        self._file = file
        self._options = options
        self.threaded = options.get("threads") != 1
        self._session = c_void_p()
        self._values: list[c_void_p] = []
        self._sizes: Any = (c_int64 * 0)()
        try:
            self._open()
            self.inputs = self._described(0)
            self.outputs = self._described(1)
            for tensor in (*self.inputs, *self.outputs):
                sizes = tensor.shape or ()
                if not takes(tensor.dtype, sizes):  # type: ignore[arg-type]
                    raise refuse(tensor.name, tensor.dtype, sizes, "ONNX Runtime")  # type: ignore[arg-type]
            self._lay_out([_least(tensor) for tensor in self.inputs])
        except BaseException:
            self._end()
            raise

    def _open(self) -> None:
        api, options = self._api, c_void_p()
        api.call(ort.CREATE_OPTIONS, byref(options))
        try:
            api.call(ort.LOG_SEVERITY, options, c_int(ort.FATAL))
            threads, spinning = self._options.get("threads") or None, self._options.get("spinning")
            environment, shared = api.environment(threads, spinning)
            if shared:
                api.call(ort.USE_SHARED_POOL, options)
            elif threads:
                api.call(ort.THREADS, options, c_int(threads))
            if not shared and spinning is not None:
                api.call(ort.CONFIGURE, options, b"session.intra_op.allow_spinning", b"1" if spinning else b"0")
            if self._options.get("arena") is False:
                api.call(ort.DISABLE_ARENA, options)
            if self._options.get("optimization") is not None:
                api.call(ort.OPTIMIZATION, options, c_int(LEVELS[self._options["optimization"]]))
            path = f"/proc/self/fd/{self._file}".encode()
            api.call(ort.CREATE_SESSION, environment, path, options, byref(self._session))
        finally:
            api.give_back(ort.RELEASE_OPTIONS, options)
        trim()

    def _described(self, side: int) -> list[base.Tensor]:
        api, count = self._api, c_size_t()
        api.call(ort.COUNTS[side], self._session, byref(count))
        found = []
        for index in range(count.value):
            name, kind = c_void_p(), c_void_p()
            api.call(ort.NAMES[side], self._session, c_size_t(index), api.allocator, byref(name))
            text = (c_char_p.from_buffer(name).value or b"").decode()
            api.call(ort.FREE, api.allocator, name)
            api.call(ort.TYPE_INFOS[side], self._session, c_size_t(index), byref(kind))
            try:
                found.append(self._tensor(text, kind))
            finally:
                api.give_back(ort.RELEASE_TYPE_INFO, kind)
        return found

    def _tensor(self, name: str, kind: c_void_p) -> base.Tensor:
        api, shape, element, rank = self._api, c_void_p(), c_int(), c_size_t()
        api.call(ort.AS_TENSOR, kind, byref(shape))
        if not shape:
            raise base.RefusedError(
                f"{name!r} is no tensor",
                "edgec runs tensors; sequences, maps and optionals have no place in a bundle's inputs and outputs",
                "change the model so that its inputs and outputs are tensors",
            )
        api.call(ort.ELEMENT, shape, byref(element))
        api.call(ort.RANK, shape, byref(rank))
        sizes, symbols = (c_int64 * rank.value)(), (c_char_p * rank.value)()
        api.call(ort.SIZES, shape, sizes, rank)
        api.call(ort.SYMBOLS, shape, symbols, rank)
        dims = [size if size >= 0 else (word or b"").decode() or None for size, word in zip(sizes, symbols)]
        return base.Tensor(name, TYPES.get(element.value, f"ONNX's type {element.value}"), tuple(dims))

    def _lay_out(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Memory for inputs of these shapes, and for the outputs where theirs follow from the model alone."""
        self._release_values()
        ports_in = [Port(t.name, t.dtype, shape) for t, shape in zip(self.inputs, shapes)]
        fixed = [all(isinstance(size, int) for size in t.shape or ("?",)) or t.shape == () for t in self.outputs]
        ports_out = [
            Port(t.name, t.dtype, t.shape if known else ())  # type: ignore[arg-type]
            for t, known in zip(self.outputs, fixed)
        ]
        values_in = [self._value(port) for port in ports_in]
        values_out = [self._value(port) if known else c_void_p() for port, known in zip(ports_out, fixed)]
        names_in = (c_char_p * len(ports_in))(*(port.name.encode() for port in ports_in))
        names_out = (c_char_p * len(ports_out))(*(port.name.encode() for port in ports_out))
        self._arrays = (
            names_in, (c_void_p * len(ports_in))(*values_in), names_out, (c_void_p * len(ports_out))(*values_out)
        )  # fmt: skip
        self._unknown = [place for place, known in enumerate(fixed) if not known]
        self.fixed = not self._unknown
        self._function = self._api.function(ort.RUN)
        self.call = self._run_unknown if self._unknown else self._function
        self.arguments = (
            c_void_p.from_param(self._session.value), c_void_p.from_param(None), byref(names_in),
            byref(self._arrays[1]), c_size_t.from_param(len(ports_in)), byref(names_out),
            c_size_t.from_param(len(ports_out)), byref(self._arrays[3]),
        )  # fmt: skip
        self.set_ports(ports_in, ports_out)

    def _value(self, port: Port) -> c_void_p:
        sizes, value = (c_int64 * len(port.shape))(*port.shape), c_void_p()
        self._api.call(
            ort.TENSOR_WITH_DATA, self._api.memory, c_void_p(port.address), c_size_t(port.nbytes), sizes,
            c_size_t(len(port.shape)), c_int(_NUMBERS[port.dtype]), byref(value),
        )  # fmt: skip
        self._values.append(value)
        return value

    def _run_unknown(self, *arguments: Any) -> Any:
        """A run whose outputs ONNX Runtime allocates, since their shapes are known afterwards: they are copied."""
        status = self._function(*arguments)
        if status:
            return status
        values = self._arrays[3]
        try:
            ports = list(self.ports_out)
            for place in self._unknown:
                ports[place] = self._copied(ports[place], c_void_p(values[place]))
            self.ports_out = ports
        finally:
            for place in self._unknown:
                self._api.give_back(ort.RELEASE_VALUE, c_void_p(values[place]))
                values[place] = None
        return None

    def _copied(self, port: Port, value: c_void_p) -> Port:
        api, info, rank, data = self._api, c_void_p(), c_size_t(), c_void_p()
        api.call(ort.SHAPE_OF, value, byref(info))
        try:
            api.call(ort.RANK, info, byref(rank))
            sizes = self._sizes if len(self._sizes) == rank.value else (c_int64 * rank.value)()
            api.call(ort.SIZES, info, sizes, rank)
        finally:
            api.give_back(ort.RELEASE_SHAPE, info)
        self._sizes = sizes  # a new kind of C array is a new class, which takes long to make
        shape = tuple(sizes)
        made = port if shape == port.shape else Port(port.name, port.dtype, shape)
        if made.nbytes:
            api.call(ort.TENSOR_DATA, value, byref(data))
            made.memory.raw = type(made.memory).from_address(data.value or 0)
        return made

    def fail(self, status: Any) -> None:
        """Raise CallError with ONNX Runtime's words."""
        raise CallError(self._api.words(status))

    def reshape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Memory for these shapes. Whether the model takes them shows when it runs."""
        self._lay_out(shapes)

    def reload(self) -> None:
        """In a fork's child: a session of its own; the parent's has threads that are not here."""
        shapes = [port.shape for port in self.ports_in]
        self._session, self._values = c_void_p(), []
        self._open()
        self._lay_out(shapes)

    def free(self) -> None:
        """Release the values, then the session, and close the file."""
        self._release_values()
        self._api.give_back(ort.RELEASE_SESSION, self._session)
        os.close(self._file)

    def _release_values(self) -> None:
        while self._values:
            self._api.give_back(ort.RELEASE_VALUE, self._values.pop())


def _least(tensor: base.Tensor) -> tuple[int, ...]:
    """The tensor's shape with 1 for each size that is free."""
    return tuple(size if isinstance(size, int) else 1 for size in tensor.shape or ())


class Engine(base.Engine):
    """`libonnxruntime.so`, called directly."""

    name = "onnxruntime"
    uses_numpy = None

    def __init__(self) -> None:
        self._found = library()

    def version(self) -> str | None:
        """The library's version; None where there is none, or its name does not say which it is."""
        return (self._found.version or None) if self._found else None

    def library(self) -> Library | None:
        """The file, for what is recorded of it."""
        return self._found

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """A session on the payload's "model". Raises RefusedError with ONNX Runtime's own words."""
        base.threads(options, OPTIONS, "ONNX Runtime")
        level = options.get("optimization")
        if level is not None and level not in LEVELS:
            raise base.RefusedError(f"optimization = {level!r} is not known", "", f"one of {', '.join(LEVELS)}")
        if list(payload.roles) != ["model"]:
            raise base.RefusedError(
                "the model's weights are files of their own", "ONNX Runtime is called by its C interface here",
                "install the package onnxruntime",
            )  # fmt: skip
        path = payload.path("model")
        if self._found is None or path is None:
            raise base.RefusedError(f"{NAME} can't be used", "there is none, or no file to give it")
        try:
            api = ort.load(self._found.path)
            return Executable(api, os.open(path, os.O_RDONLY | os.O_CLOEXEC), options)
        except CallError as error:
            raise base.RefusedError(
                "ONNX Runtime refuses the model",
                str(error)[:400],
                "compile it for the version of onnxruntime on this machine, or install the version it was proven with",
            ) from error
