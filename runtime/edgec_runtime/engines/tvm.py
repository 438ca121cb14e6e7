"""Models that TVM compiled ahead of time: a shared library that needs nothing but the C library. No TVM is here.

The library is native code: `select` gives it out from trusted bundles alone, and its bytes are those that were signed.
Its interface is edgec's own (`edgec_targets/emitters/tvm/driver.c`): `VERSION` is the newest that this module knows.
It is opened from a file of the payload's or, out of a bundle, from an anonymous one.

Option of a payload: `threads`; None is as many as this process may use.
"""

from __future__ import annotations

import os

from edgec_runtime import dtypes
from edgec_runtime.engines import base, foreign, native
from edgec_runtime.engines.foreign import byref, c_char_p, c_int, c_void_p
from edgec_runtime.engines.memory import Port, refuse, takes
from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgec_runtime.payload import Payload

VERSION = "1"
OPTIONS = ("threads",)
ELF, MACHINES = b"\x7fELF", {"x86_64": 62, "aarch64": 183}
FIX = "compile the model for this machine again, or install a runtime that knows it"


class Api:
    """A payload's library, loaded, and its functions. Raises CallError where it is none."""

    def __init__(self, path: str) -> None:
        _checked(path)
        try:
            self._library = foreign.Library(_unheard_of(path))
            self.version: int = self._library.function("edgec_tvm_abi")()
            if self.version != int(VERSION):
                raise CallError(f"its interface is of version {self.version}; this runtime knows {VERSION}")
            self.run = self._library.function("edgec_tvm_run")
            self._open = self._library.function("edgec_tvm_open", c_void_p)
            self._close = self._library.function("edgec_tvm_close", None)
            self._error = self._library.function("edgec_tvm_error", c_char_p)
            self.tensors: bytes = self._library.function("edgec_tvm_tensors", c_char_p)()
        except OSError as error:
            raise CallError(str(error)) from None
        except AttributeError as error:
            raise CallError(f"it is no library that edgec made: {error}") from None

    def open(self, threads: int) -> c_void_p:
        """Memory and threads for one run at a time. Raises CallError without memory."""
        handle = self._open(c_int(threads))
        if not handle:
            raise CallError("there is not enough memory")
        return c_void_p(handle)

    def close(self, handle: c_void_p) -> None:
        """End its threads and free its memory."""
        if handle:
            self._close(handle)
            handle.value = None

    def unload(self) -> None:
        """Unmap the library, once all that it opened is closed: out of a bundle, its file is memory."""
        from _ctypes import dlclose

        dlclose(self._library._handle)

    def words(self) -> str:
        """What the last run of this thread failed of."""
        return (self._error() or b"").decode("utf-8", "replace") or "a kernel failed"


_opened = [0]


def _unheard_of(path: str) -> str:
    """Another name of the same file: the loader gives out a library that it has under a name already, whatever file the
    name means by now, and files in /proc/self/fd are reused. Each opening gets its own slashes."""
    _opened[0] += 1
    folder, _, name = os.path.abspath(path).rpartition("/")
    return folder + "/" + "".join("./" if bit == "1" else "/" for bit in bin(_opened[0])[2:]) + name


def _checked(path: str) -> None:
    """Raise CallError where the loader would map a file of another machine, or one that was cut off and crash."""
    with open(path, "rb") as file:
        head = file.read(64)
        size = os.fstat(file.fileno()).st_size
    if len(head) < 64 or head[:4] != ELF or head[4] != 2:
        raise CallError("it is no 64-bit shared library")
    machine = int.from_bytes(head[18:20], "little")
    if machine != MACHINES.get(os.uname().machine, machine):
        raise CallError(f"it is for another machine (ELF machine {machine})")
    end = int.from_bytes(head[40:48], "little") + int.from_bytes(head[58:60], "little") * int.from_bytes(
        head[60:62], "little"
    )  # of the table of sections, which the linker puts last
    if end > size:
        raise CallError("it was cut off")


class Executable(native.Executable):
    """An open model. Its inputs and outputs lie in ports, which its kernels read and write directly."""

    def __init__(self, api: Api, threads: int) -> None:
        super().__init__()
        self._api = api
        self._threads = threads
        self.threaded = threads > 1
        self._handle = c_void_p()
        try:
            self.inputs, self.outputs = [], []
            for line in api.tensors.decode().splitlines():
                side, dtype, sizes, name = line.split(" ", 3)
                shape = () if sizes == "-" else tuple(map(int, sizes.split("x")))
                if dtype not in dtypes.BITS or not takes(dtype, shape):
                    raise refuse(name, dtype, shape, "The compiled model")
                (self.inputs if side == "i" else self.outputs).append(base.Tensor(name, dtype, shape))
            self._start()
        except BaseException:
            self._end()
            raise

    def _start(self) -> None:
        self._handle = self._api.open(self._threads)
        ports = [
            [Port(t.name, t.dtype, t.shape) for t in tensors]  # type: ignore[arg-type]
            for tensors in (self.inputs, self.outputs)
        ]
        self._pointers = [(c_void_p * len(side))(*(port.address for port in side)) for side in ports]
        self.call = self._api.run
        self.arguments = (
            c_void_p.from_param(self._handle.value), byref(self._pointers[0]), byref(self._pointers[1])
        )  # fmt: skip
        self.set_ports(*ports)

    def fail(self, status: Any) -> None:
        """Raise CallError with the kernel's words."""
        raise CallError(self._api.words())

    def reshape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise CallError: the sizes are compiled in."""
        for port, shape in zip(self.ports_in, shapes):
            if port.shape != shape:
                raise CallError(f"{port.name!r} is {list(port.shape)} in the compiled model, not {list(shape)}")

    def reload(self) -> None:
        """In a fork's child: memory and threads of its own; the parent's threads are not here."""
        self._start()

    def free(self) -> None:
        """End the threads, free the memory and unmap the library."""
        self._api.close(self._handle)
        self._api.unload()


class Engine(base.Engine):
    """Loads compiled models. Always there: they bring all they need."""

    name = "tvm"
    uses_numpy = None

    def version(self) -> str:
        """Of the interface between payload and runtime."""
        return VERSION

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """Open the payload's "model". Raises RefusedError where it is not for this machine, or damaged."""
        threads = base.threads(options, OPTIONS, "a compiled model")
        if "model" not in payload.roles:
            raise base.RefusedError("the payload has no model", "a compiled model's library has the role 'model'")
        path = payload.path("model")
        try:
            if path is None:
                return _unpacked(payload.buffer("model"), threads or _cores())
            return Executable(Api(path), threads or _cores())
        except (CallError, OSError) as error:
            raise base.RefusedError("the compiled model can't be opened", str(error)[:300], FIX) from error


def _unpacked(library: bytes | memoryview, threads: int) -> Executable:
    """A model whose library is in memory alone: the loader wants a file, which is gone once it is mapped."""
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(prefix="edgec-", suffix=".so") as file:
        file.write(library)
        file.flush()
        return Executable(Api(file.name), threads)


def _cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
