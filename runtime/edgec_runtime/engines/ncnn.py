"""ncnn by its Python package, whose one module has the library in it: no numpy is imported for it.

The wheels of ncnn export no C interface, so the module's own classes are called; they take and give plain buffers.
A blob of ncnn's has no batch and at most four dimensions, so a payload has three files: "param", "bin", and
"interface", which says how arrays and blobs correspond (`ncnn_files`).

Arithmetic is float32 on every machine: half precision and bfloat16, which ncnn takes by itself where the CPU has them,
are off, and so is the GPU. Options of a payload: `threads`; `spinning`, whether threads wait for their next piece of
work awake, which the process' first model decides (not by default: with anything else on the same cores, awake threads
took thirty times the CPU time); `arena` is taken and means nothing.
"""

from __future__ import annotations

import os

from edgec_runtime.engines import base, native
from edgec_runtime.engines.library import LOADED, Library, find
from edgec_runtime.engines.memory import Port
from edgec_runtime.engines.native import CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from edgec_runtime.engines.ncnn_files import Interface
    from edgec_runtime.engines.ncnn_files import Port as Described
    from edgec_runtime.payload import Payload

VARIABLE = "EDGEC_NCNN_LIBRARY"  # names the module's file; "" says that there is none
OPTIONS = ("threads", "spinning", "arena")
NAME = "ncnn"
WAITING = "OMP_WAIT_POLICY"
ROLES = ("param", "bin", "interface")
OFF = (
    "use_vulkan_compute", "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed",
    "use_bf16_storage", "use_int8_inference", "use_int8_packed", "use_int8_storage", "use_int8_arithmetic",
    "use_tensor_storage",
)  # fmt: skip
ON = (
    "lightmode", "use_packing_layout", "use_sgemm_convolution", "use_winograd_convolution",
    "use_winograd23_convolution", "use_winograd43_convolution", "use_winograd63_convolution",
)  # fmt: skip
DTYPE = "float32"


def library() -> Library | None:
    """The package's module, or None. It is found without importing anything of the package."""
    return find(_is_module, variable=VARIABLE, package=NAME, folder="", distribution=NAME)


def _is_module(name: str) -> bool:
    """Whether a file is the module for the interpreter that runs: "ncnn.cpython-311-aarch64-linux-gnu.so"."""
    if not name.startswith("ncnn."):
        return False
    from _imp import extension_suffixes

    return name[4:] in extension_suffixes()


def module(path: str = "", *, spinning: bool = False) -> Any:
    """The package, imported; or the module at `path`, where that is in no package. Raises CallError where it can't be.

    The OpenMP library that comes with it reads its environment once, as it is loaded.
    """
    sleepy = not spinning and WAITING not in os.environ
    if sleepy:
        os.environ[WAITING] = "passive"
    try:
        return _imported(path)
    except (ImportError, OSError) as error:
        raise CallError(f"ncnn can't be imported: {error}") from None
    finally:
        if sleepy:
            del os.environ[WAITING]


def _imported(path: str) -> Any:
    import sys
    from importlib import import_module

    # One process can have the module once, so it has the package's name however it was found.
    if NAME in sys.modules or not path or os.path.isfile(os.path.join(os.path.dirname(path), "__init__.py")):
        return import_module(NAME)
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    spec: Any = spec_from_file_location(NAME, path, loader=ExtensionFileLoader(NAME, path))
    found = sys.modules[NAME] = module_from_spec(spec)
    try:
        spec.loader.exec_module(found)
    except BaseException:
        del sys.modules[NAME]
        raise
    return found


class Run:
    """One run of a net, called without arguments: 0, or what ncnn gives where it fails. Values are copied into blobs of
    ncnn's own: laid over another's memory, a layer that works in place would crash.

    Args:
        net: a loaded `ncnn.Net`.
        feeds: each input's blob, and where its values are.
        wants: each output's blob, and where its values go.
    """

    __slots__ = ("_feeds", "_net", "_wants")

    def __init__(
        self, net: Any, feeds: Sequence[tuple[Described, Port]], wants: Sequence[tuple[Described, Port]]
    ) -> None:
        make = module().Mat
        mats = [make(port.dims[::-1]) for port, _ in feeds]
        self._net = net
        self._feeds = [
            (port.blob, mat, memoryview(mat).cast("B"), memory.view) for mat, (port, memory) in zip(mats, feeds)
        ]
        self._wants = [(port.blob, memory.view) for port, memory in wants]

    def __call__(self) -> int:
        """Run once."""
        extractor = self._net.create_extractor()
        for blob, mat, into, view in self._feeds:
            into[:] = view
            status: int = extractor.input(blob, mat)
            if status:
                return status
        for blob, view in self._wants:
            status, mat = extractor.extract(blob)
            if status:
                return status
            view[:] = memoryview(mat).cast("B")
        return 0


class Executable(native.Executable):
    """A loaded net.

    Args:
        files: descriptors of the `.param` and the `.bin`; it closes them.
        interface: how arrays and blobs correspond.
        threads: None for ncnn's own number.
    """

    def __init__(self, files: tuple[int, int], interface: Interface, threads: int | None) -> None:
        super().__init__()
        self.threaded = threads != 1
        self._files = files
        self._interface = interface
        self._threads = threads
        self._dead: list[Any] = []
        self.arguments = ()
        try:
            self.inputs = [base.Tensor(port.name, DTYPE, port.shape) for port in interface.inputs]
            self.outputs = [base.Tensor(port.name, DTYPE, port.shape) for port in interface.outputs]
            self._open(_ports(interface.inputs), _ports(interface.outputs))
        except BaseException:
            self._end()
            raise

    def _open(self, ports_in: list[Port], ports_out: list[Port]) -> None:
        """Load the net, to run on this memory."""
        net = module().Net()
        for names, value in ((OFF, False), (ON, True)):
            for name in names:
                if hasattr(net.opt, name):  # releases have more of them or fewer
                    setattr(net.opt, name, value)
        if self._threads:
            net.opt.num_threads = self._threads
        param, data = self._files
        if net.load_param(f"/proc/self/fd/{param}"):
            raise CallError("it takes the .param for damaged, or made for another release")
        if net.load_model(f"/proc/self/fd/{data}"):
            raise CallError("the .bin doesn't have what the .param says")
        self.call = Run(net, [*zip(self._interface.inputs, ports_in)], [*zip(self._interface.outputs, ports_out)])
        self.set_ports(ports_in, ports_out)

    def probe(self) -> None:
        """Run once on zeros. Raises CallError where ncnn fails, or an output has other dimensions than said."""
        try:
            status = self.call()
        except (TypeError, ValueError):  # a blob with gaps, or of another size
            raise CallError("an output has other dimensions than the payload says") from None
        if status:
            self.fail(status)

    def fail(self, status: Any) -> None:
        """Raise CallError."""
        raise CallError(f"a layer failed (status {status}): memory may be short, or the model made for another release")

    def reshape(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Raise CallError: the sizes are fixed."""
        port, shape = next((p, s) for p, s in zip(self.ports_in, shapes) if p.shape != s)
        raise CallError(f"{port.name!r} is {list(port.shape)} in the model, not {list(shape)}")

    def reload(self) -> None:
        """In a fork's child: one thread from now on, since those of the OpenMP library can't be had again."""
        self._dead.append(self.call)
        self._threads, self.threaded = 1, False
        self._open(self.ports_in, self.ports_out)

    def free(self) -> None:
        """Give the net back, and close its files."""
        self.call = native.closed
        for file in self._files:
            os.close(file)


def _ports(described: Sequence[Described]) -> list[Port]:
    return [Port(port.name, DTYPE, port.shape) for port in described]


class Engine(base.Engine):
    """The package `ncnn`."""

    name = "ncnn"
    uses_numpy = None

    def __init__(self) -> None:
        self._found = library()

    def version(self) -> str | None:
        """The package's version; None where there is none."""
        return (self._found.version or None) if self._found else None

    def library(self) -> Library | None:
        """The module's file, for what is recorded of it."""
        return self._found

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """Load the payload's files. Raises RefusedError where the package or the model can't be used."""
        from edgec_runtime.engines import ncnn_files

        threads = base.threads(options, OPTIONS, "ncnn")
        missing = sorted(set(ROLES) - set(payload.roles))
        if missing:
            raise base.RefusedError(f"the payload has no {missing[0]}", f"ncnn loads three files: {', '.join(ROLES)}")
        if self._found is None:
            raise base.RefusedError("there is no package ncnn", "it was there when the payload was chosen")
        proven = payload.proven == self._found.stamp()
        try:
            if not proven:
                from edgec_runtime.engines import ncnn_check

                ncnn_check.check(self._found)
            interface = ncnn_files.read(payload.buffer("interface"))
            ncnn_files.check(interface, bytes(payload.buffer("param")), len(payload.buffer("bin")))
            module(self._found.path, spinning=options.get("spinning") is True)
            LOADED.setdefault(self._found.path, self._found.stamp())
            executable = Executable((_open(payload, "param"), _open(payload, "bin")), interface, threads)
            if not proven:
                executable.probe()
            return executable
        except CallError as error:
            raise base.RefusedError(
                "ncnn refuses the model",
                str(error),
                "compile it for the release of ncnn on this machine, or install the release it was proven with",
            ) from error


def _open(payload: Payload, role: str) -> int:
    """A file of the payload's, open; read again in a fork's child."""
    path = payload.path(role)
    if path is not None:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    from tempfile import TemporaryFile

    with TemporaryFile() as file:  # a system without anonymous files
        file.write(payload.buffer(role))
        file.flush()
        return os.dup(file.fileno())
