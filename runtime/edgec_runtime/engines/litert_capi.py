"""LiteRT by its C interface: `libLiteRt.so` alone, no numpy, no package imported.

The functions are those of google-ai-edge/LiteRT, litert/c, from 2.1.6 on: models are made in an environment (before,
they were not: another signature under the same name) and options travel as text (before, as a C++ structure). Both came
with the function LiteRtCreateModelFromFd, so a library without it is not called at all.

Options of a payload: `threads`. `spinning` and `arena` are taken and mean nothing: LiteRT has nothing of the kind.
"""

from __future__ import annotations

import os

from edgec_runtime.engines import base, foreign, native
from edgec_runtime.engines.foreign import byref, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from edgec_runtime.engines.hush import Hush
from edgec_runtime.engines.library import LOADED, Library, find
from edgec_runtime.engines.memory import Port, refuse, takes
from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgec_runtime.payload import Payload

VARIABLE = "EDGEC_LITERT_LIBRARY"
NAME = "libLiteRt.so"
IDENTIFIER = b"TFL3"  # bytes 4 to 8 of each TFLite file
OLDEST = "LiteRtCreateModelFromFd"  # exported from 2.1.6 on

CPU, SILENT = 1, 4  # LiteRtHwAccelerators, LiteRtLogSeverity
ACCELERATORS, SEVERITY = 24, 25  # LiteRtEnvOptionTag
INT = 2  # LiteRtAnyType
TYPES = {
    1: "float32", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16", 8: "complex64", 9: "int8",
    10: "float16", 11: "float64", 12: "complex128", 13: "uint64", 16: "uint32", 17: "uint16", 18: "int4",
    19: "bfloat16", 20: "int2", 21: "uint4",
}  # fmt: skip
STATUS = {
    1: "invalid argument", 2: "out of memory", 3: "the runtime failed", 4: "an input is missing", 5: "unsupported",
    6: "not found", 8: "wrong version", 500: "the file can't be read, or it is no TFLite model", 501: "it is invalid",
    504: "it can't be compiled", 1000: "index out of bounds", 1001: "invalid type", 1002: "the graph is invalid",
}  # fmt: skip


# LiteRtLayout, as 32-bit numbers: the rank (bits 0 to 6; bit 7: has strides), eight sizes, eight strides. A
# LiteRtRankedTensorType is the number of the element's type and a layout. Plain numbers, since ctypes' structures take
# longer to make than a model takes to load.
LAYOUT, MAX_RANK, RANK_BITS = 17, 8, 0x7F
Layout: Any = c_int32 * LAYOUT  # kept: a kind of C array whose last instance is gone is made anew, which takes long
RankedType: Any = c_int32 * (1 + LAYOUT)


def library() -> Library | None:
    """The library that would be taken, or None."""
    return find(NAME.__eq__, variable=VARIABLE, package="ai_edge_litert", folder="", distribution="ai_edge_litert")


class Api:
    """The library, loaded, with one environment for all models of this process.

    Raises CallError where it is no such library, or one of before 2.1.6.
    """

    def __init__(self, path: str) -> None:
        try:
            self._library = foreign.Library(path)
            self._functions = {OLDEST: self._library.function(OLDEST)}
        except OSError as error:
            raise CallError(str(error)) from None
        except AttributeError:
            raise CallError(f"{path} is no LiteRT from 2.1.6 on: it lacks {OLDEST}") from None
        # LiteRtEnvOption twice: tag, type of the value, value; each in 8 bytes, little-endian.
        options = (c_int64 * 6)(ACCELERATORS, INT, CPU, SEVERITY, INT, SILENT)
        self.environment = c_void_p()
        self.call("LiteRtCreateEnvironment", 2, options, byref(self.environment))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that returns a status. Raises CallError where it fails, or there is no such function."""
        status = self.function(name)(*arguments)
        if status:
            raise CallError(f"{name}: {STATUS.get(status, 'failed')} (status {status})")

    def give_back(self, name: str, handle: c_void_p) -> None:
        """Call a function that frees a handle."""
        if handle:
            self.function(name, None)(handle)
            handle.value = None

    def function(self, name: str, returns: Any = c_int) -> Any:
        """A function of the library. Raises CallError where there is none of this name."""
        found = self._functions.get(name)
        if found is None:
            try:
                found = self._functions[name] = self._library.function(name, returns)
            except AttributeError:
                raise CallError(f"the library has no {name}") from None
        return found

    def text(self, text: bytes) -> tuple[c_void_p, Any]:
        """A copy of a text that the library shall free, and the function to free it with: C's own."""
        process = foreign.Library(None)
        return c_void_p(process.function("strdup", c_void_p)(text)), process.function("free", None)


_loaded: dict[str, Api] = {}  # path -> loaded once: several models share the library and its environment


def load(path: str) -> Api:
    """The library at `path`, loaded at first use."""
    api = _loaded.get(path)
    if api is None:
        stamp = Library(path, "").stamp()
        api = _loaded[path] = Api(path)
        LOADED[path] = stamp
    return api


class Executable(native.Executable):
    """A compiled model of one signature, and its buffers, which lie over the ports' memory."""

    def __init__(self, api: Api, file: int, threads: int | None) -> None:
        super().__init__()
        self.threaded = threads != 1
        self._api = api
        self._file = file
        self._threads = threads
        self._model, self._compiled = c_void_p(), c_void_p()
        self._buffers: list[c_void_p] = []
        try:
            self._open()
            self.inputs = [base.Tensor(*described) for described in self._described("Input")]
            self.outputs = [base.Tensor(*described) for described in self._described("Output")]
            for tensor in (*self.inputs, *self.outputs):
                shape: Any = tensor.shape
                if not takes(tensor.dtype, shape):
                    raise refuse(tensor.name, tensor.dtype, shape, "LiteRT")
            self._layouts()
        except BaseException:
            self._end()
            raise

    def _open(self) -> None:
        """The model's file mapped, and compiled."""
        api = self._api
        size = os.fstat(self._file).st_size
        if os.pread(self._file, 8, 0)[4:] != IDENTIFIER:  # the library would write about it to stderr
            raise CallError("it is no TFLite model")
        model = byref(self._model)
        api.call("LiteRtCreateModelFromFd", api.environment, self._file, c_size_t(0), c_size_t(size), model)
        count = c_size_t()
        api.call("LiteRtGetNumModelSignatures", self._model, byref(count))
        if count.value > 1:
            raise CallError(f"it has {count.value} signatures, and one is what a payload has")
        options = c_void_p()
        api.call("LiteRtCreateOptions", byref(options))
        try:
            api.call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
            if self._threads:
                opaque = c_void_p()
                text, free = api.text(f"num_threads = {self._threads}\n".encode())
                api.call("LiteRtCreateOpaqueOptions", b"xnnpack", text, free, byref(opaque))
                api.call("LiteRtAddOpaqueOptions", options, opaque)
            compiled = byref(self._compiled)
            with Hush():
                api.call("LiteRtCreateCompiledModel", api.environment, self._model, options, compiled)
        finally:
            api.give_back("LiteRtDestroyOptions", options)

    def _described(self, kind: str) -> list[tuple[str, str, tuple[int, ...]]]:
        """(name, dtype, shape) of each input or output of the signature; a free size is -1."""
        api, signature, count = self._api, c_void_p(), c_size_t()
        api.call("LiteRtGetModelSignature", self._model, c_size_t(0), byref(signature))
        api.call(f"LiteRtGetNumSignature{kind}s", signature, byref(count))
        found = []
        for index in range(count.value):
            name, tensor, kind_of = c_char_p(), c_void_p(), RankedType()
            place = c_size_t(index)
            api.call(f"LiteRtGetSignature{kind}Name", signature, place, byref(name))
            api.call(f"LiteRtGetSignature{kind}TensorByIndex", signature, place, byref(tensor))
            api.call("LiteRtGetRankedTensorType", tensor, byref(kind_of))
            dtype = TYPES.get(kind_of[0], f"LiteRT's type {kind_of[0]}")
            found.append(((name.value or b"").decode(), dtype, _shape(kind_of[1:])))
        return found

    def _layouts(self) -> None:
        """Ports and buffers for the shapes that the compiled model has now."""
        api = self._api
        shapes_in, shapes_out = [], []
        for index in range(len(self.inputs)):
            layout = Layout()
            place = c_size_t(index)
            api.call("LiteRtGetCompiledModelInputTensorLayout", self._compiled, c_size_t(0), place, byref(layout))
            shapes_in.append(_shape(layout[:]))
        count = len(self.outputs)
        layouts = (c_int32 * (LAYOUT * count))()
        api.call(
            "LiteRtGetCompiledModelOutputTensorLayouts", self._compiled, c_size_t(0), c_size_t(count), layouts, True
        )
        shapes_out = [_shape(layouts[LAYOUT * place : LAYOUT * (place + 1)]) for place in range(count)]
        for tensor, shape in zip((*self.inputs, *self.outputs), (*shapes_in, *shapes_out)):
            if any(size < 1 for size in shape):
                raise CallError(f"the shape of {tensor.name!r} is not known before a run: {list(shape)}")
        self._release_buffers()
        ports_in = [Port(t.name, t.dtype, shape) for t, shape in zip(self.inputs, shapes_in)]
        ports_out = [Port(t.name, t.dtype, shape) for t, shape in zip(self.outputs, shapes_out)]
        self._handles = [(c_void_p * len(ports))(*map(self._buffer, ports)) for ports in (ports_in, ports_out)]
        self.call = api.function("LiteRtRunCompiledModel")
        self.arguments = (
            c_void_p.from_param(self._compiled.value), c_size_t.from_param(0), c_size_t.from_param(len(ports_in)),
            byref(self._handles[0]), c_size_t.from_param(len(ports_out)), byref(self._handles[1]),
        )  # fmt: skip
        self.set_ports(ports_in, ports_out)

    def _buffer(self, port: Port) -> c_void_p:
        kind = RankedType(_NUMBERS[port.dtype], len(port.shape), *port.shape)
        handle = c_void_p()
        self._api.call(
            "LiteRtCreateTensorBufferFromHostMemory", byref(kind), c_void_p(port.address), c_size_t(port.nbytes), None,
            byref(handle),
        )  # fmt: skip
        self._buffers.append(handle)
        return handle

    def fail(self, status: Any) -> None:
        """Raise CallError."""
        raise CallError(f"LiteRtRunCompiledModel: {STATUS.get(status, 'failed')} (status {status})")

    def reshape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Resize the inputs whose sizes are free. Raises CallError for sizes that are not."""
        for index, (port, shape) in enumerate(zip(self.ports_in, shapes)):
            if shape == port.shape:
                continue
            sizes = (c_int * len(shape))(*shape)
            try:
                self._api.call(
                    "LiteRtCompiledModelResizeInputTensor", self._compiled, c_size_t(0), c_size_t(index), sizes,
                    c_size_t(len(shape)),
                )  # fmt: skip
            except CallError:
                raise CallError(f"{port.name!r} is {list(port.shape)} in the model, not {list(shape)}") from None
        self._layouts()

    def reload(self) -> None:
        """In a fork's child: the parent's compiled model has threads that are not here; it is left as it is."""
        self._model, self._compiled, self._buffers = c_void_p(), c_void_p(), []
        self._open()
        self._layouts()

    def free(self) -> None:
        """Destroy buffers, compiled model and model, in this order, and close the file."""
        self._release_buffers()
        self._api.give_back("LiteRtDestroyCompiledModel", self._compiled)
        self._api.give_back("LiteRtDestroyModel", self._model)
        os.close(self._file)

    def _release_buffers(self) -> None:
        while self._buffers:
            self._api.give_back("LiteRtDestroyTensorBuffer", self._buffers.pop())


def _shape(layout: Sequence[int]) -> tuple[int, ...]:
    return tuple(layout[1 : 1 + (layout[0] & RANK_BITS)])


_NUMBERS = {name: number for number, name in TYPES.items()}


class Engine(base.Engine):
    """`libLiteRt.so`, called directly."""

    name = "litert"
    uses_numpy = None

    def __init__(self) -> None:
        self._found = library()

    def version(self) -> str | None:
        """The library's version; None where there is none, or nothing says which it is."""
        return (self._found.version or None) if self._found else None

    def library(self) -> Library | None:
        """The file, for what is recorded of it."""
        return self._found

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """Compile the payload's "model". Raises RefusedError where the library or the model can't be used."""
        threads = base.threads(options, base.LITERT_OPTIONS, "LiteRT")
        if "model" not in payload.roles:
            raise base.RefusedError("the payload has no model", "LiteRT loads the file with the role 'model'")
        if self._found is None:
            raise base.RefusedError(f"there is no {NAME}", "it was there when the payload was chosen")
        try:
            if payload.proven != self._found.stamp():
                from edgec_runtime.engines import selfcheck

                selfcheck.check(self._found.path)
            api = load(self._found.path)
            return Executable(api, _open(payload), threads)
        except CallError as error:
            raise base.RefusedError(
                "LiteRT refuses the model",
                str(error),
                "compile it for the version of LiteRT on this machine, or install the version it was proven with",
            ) from error


def _open(payload: Payload) -> int:
    """The model's file, open."""
    path = payload.path("model")
    if path is not None:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    from tempfile import TemporaryFile

    with TemporaryFile() as file:  # a system without anonymous files
        file.write(payload.buffer("model"))
        file.flush()
        return os.dup(file.fileno())
