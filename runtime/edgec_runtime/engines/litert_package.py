"""LiteRT by the Python packages `ai_edge_litert` or `tflite_runtime`, whichever the board has.

What they give and take are numpy's arrays. Tensors are known by the names of the model's only signature; a model
without one by its tensors' own names.
"""

from __future__ import annotations

import _thread
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgec_runtime import dtypes
from edgec_runtime.engines import base
from edgec_runtime.engines.hush import Hush
from edgec_runtime.engines.native import CallError, closed

if TYPE_CHECKING:
    from edgec_runtime.payload import Payload

PACKAGES = ("ai_edge_litert", "tflite_runtime")


class Engine(base.Engine):
    """The interpreter of a Python package."""

    name = "litert"
    uses_numpy = True

    def version(self) -> str | None:
        """The version of the first package that can be imported, as its distribution says; None without one."""
        for package in PACKAGES:
            if _interpreter(package) is not None:
                from importlib import metadata

                try:
                    return metadata.version(package.replace("_", "-"))
                except metadata.PackageNotFoundError:
                    continue
        return None

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """An interpreter on the payload's "model". Raises RefusedError with the package's own words."""
        count = base.threads(options, base.LITERT_OPTIONS, "LiteRT")
        if "model" not in payload.roles:
            raise base.RefusedError("the payload has no model", "LiteRT loads the file with the role 'model'")
        make = next(made for made in map(_interpreter, PACKAGES) if made is not None)
        path = payload.path("model")
        given = {"model_path": path} if path else {"model_content": bytes(payload.buffer("model"))}
        try:
            with Hush():
                interpreter = make(num_threads=count, **given)
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise base.RefusedError(
                "LiteRT refuses the model",
                str(error)[:400],
                "compile it for the version of LiteRT on this machine, or install the version it was proven with",
            ) from error
        return Executable(interpreter)


def _interpreter(package: str) -> Any:
    """The class Interpreter of a package, or None."""
    try:
        module: Any = import_module(f"{package}.interpreter")
    except (ImportError, OSError):  # OSError: a library that it loads by ctypes can't be loaded
        return None
    return module.Interpreter


class Executable(base.Executable):
    """An interpreter. One run at a time."""

    failures = (RuntimeError, ValueError, MemoryError)

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._lock = _thread.allocate_lock()
        details_in, details_out = _by_name(interpreter)
        self._in = {name: (detail["index"], tuple(detail["shape"])) for name, detail in details_in.items()}
        self._out = {name: detail["index"] for name, detail in details_out.items()}
        self.inputs = [_tensor(name, detail) for name, detail in details_in.items()]
        self.outputs = [_tensor(name, detail) for name, detail in details_out.items()]

    def run(self, names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names, as new arrays. Raises CallError for shapes that the model can't take."""
        with self._lock:
            interpreter = self._interpreter
            if any(feeds[name].shape != shape for name, (_, shape) in self._in.items()):
                self._reshape(feeds)
            for name, (index, _) in self._in.items():
                interpreter.set_tensor(index, feeds[name])
            interpreter.invoke()
            return [interpreter.get_tensor(self._out[name]) for name in names]

    def bind(self, outputs: Mapping[str, Any]) -> None:
        """None: the package always makes arrays of its own."""
        return

    def close(self) -> None:
        """Drop the interpreter."""
        with self._lock:
            self.run = closed  # type: ignore[method-assign, assignment]
            self._interpreter = None

    def _reshape(self, feeds: Mapping[str, Any]) -> None:
        for name, (index, shape) in self._in.items():
            if feeds[name].shape != shape:
                try:
                    self._interpreter.resize_tensor_input(index, feeds[name].shape, strict=True)
                    self._interpreter.allocate_tensors()
                except (RuntimeError, ValueError):
                    raise CallError(f"{name!r} is {list(shape)} in the model, not {list(feeds[name].shape)}") from None
                self._in[name] = (index, tuple(feeds[name].shape))


def _by_name(interpreter: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The details of inputs and outputs by the signature's names, in its order, or by the tensors' own."""
    details_in, details_out = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list() if hasattr(interpreter, "get_signature_list") else {}
    if len(signatures) != 1:
        return {detail["name"]: detail for detail in details_in}, {detail["name"]: detail for detail in details_out}
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    return dict(runner.get_input_details()), dict(runner.get_output_details())


def _tensor(name: str, detail: Mapping[str, Any]) -> base.Tensor:
    import numpy

    kind = numpy.dtype(detail["dtype"])
    dtype = "string" if kind.kind in "SUO" else kind.name
    if dtype not in dtypes.BITS or dtype == "string":
        raise base.RefusedError(f"{name!r} has the type {kind}, which edgec does not run by LiteRT")
    return base.Tensor(name, dtype, tuple(int(size) for size in detail["shape"]))
