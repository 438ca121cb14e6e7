"""ONNX Runtime: the adapter of the `onnxruntime` Python package (any build of it: CPU, GPU, a vendor's own).

Options of a payload (None, or absent, leaves ONNX Runtime's own default):

    threads       intra-op threads
    spinning      whether idle threads spin before they sleep
    arena         whether freed memory is kept for the next run
    optimization  "all" | "extended" | "basic" | "none": graph optimization while loading
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgec_runtime import dtypes
from edgec_runtime.engines import base

if TYPE_CHECKING:
    from edgec_runtime.payload import Payload

TYPES = {"float": "float32", "double": "float64", "float4e2m1": "float4e2m1"}  # where ORT's names are not ours
OPTIONS = {"threads", "spinning", "arena", "optimization"}
LEVELS = {
    "all": "ORT_ENABLE_ALL", "extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC", "none": "ORT_DISABLE_ALL",
}  # fmt: skip
QUIET = 4  # fatal only: what goes wrong comes as an exception, and a device's log is not for an engine's warnings


class Engine(base.Engine):
    """The `onnxruntime` package."""

    name = "onnxruntime"
    uses_numpy = True

    def version(self) -> str | None:
        """Its version, or None where it can't be imported."""
        try:
            import onnxruntime
        except (ImportError, OSError):
            return None
        return str(onnxruntime.__version__)

    def load(self, payload: Payload, options: Mapping[str, Any]) -> Executable:
        """A session on the payload's "model". Its other files are external data, by the last part of their names."""
        settings = _settings(options)
        more = [role for role in payload.roles if role != "model"]
        if "model" not in payload.roles:
            raise base.RefusedError("the payload has no model", "ONNX Runtime loads the file with the role 'model'")
        try:
            if more:
                names = [payload.roles[role].rpartition("/")[2] for role in more]
                data = [payload.buffer(role) for role in more]
                settings.add_external_initializers_from_files_in_memory(names, data, [len(part) for part in data])
            source = payload.path("model") or bytes(payload.buffer("model"))
            session = _package().InferenceSession(source, settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # ORT's exceptions have no common base; TrustError must not become a refusal
            _reraise_ours(error)
            raise base.RefusedError(
                "ONNX Runtime refuses the model",
                str(error)[:400],
                "compile it for the version of onnxruntime on this machine, or install the version it was proven with",
            ) from error
        return Executable(session)


def _package() -> Any:
    import onnxruntime

    return onnxruntime


def _settings(options: Mapping[str, Any]) -> Any:
    """SessionOptions; RefusedError for an option, or a value, that this adapter doesn't know."""
    onnxruntime = _package()
    unknown = sorted(options.keys() - OPTIONS)
    if unknown:
        raise base.RefusedError(f"the option {unknown[0]!r} is not one of ONNX Runtime's", "", "update edgec-runtime")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = QUIET
    threads, level = options.get("threads"), options.get("optimization")
    if threads is not None:
        if type(threads) is not int or not 0 <= threads <= 1024:
            raise base.RefusedError(f"threads = {threads!r} makes no sense", "", "give a number from 1 to 1024")
        settings.intra_op_num_threads = threads
    if options.get("spinning") is not None:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options["spinning"] else "0")
    if options.get("arena") is not None:
        settings.enable_cpu_mem_arena = bool(options["arena"])
    if level is not None:
        if level not in LEVELS:
            raise base.RefusedError(f"optimization = {level!r} is not known", "", f"one of {', '.join(LEVELS)}")
        settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
    return settings


def _reraise_ours(error: Exception) -> None:
    from edgec_runtime.errors import Error

    if isinstance(error, Error):
        raise error


class Executable(base.Executable):
    """An InferenceSession."""

    def __init__(self, session: Any) -> None:
        self.inputs = [_tensor(node) for node in session.get_inputs()]
        self.outputs = [_tensor(node) for node in session.get_outputs()]
        self._session = session
        # The wrapper's own `run` checks names again and costs about a microsecond; its inner session is the same call.
        native = getattr(session, "_sess", None)
        call = getattr(native, "run", session.run)
        if any(tensor.dtype in dtypes.ML_DTYPES for tensor in (*self.inputs, *self.outputs)):
            from edgec_runtime.engines import onnxruntime_values

            self._plain = False
            self.run = onnxruntime_values.runner(session, self.inputs)
        else:
            self._plain = not any(tensor.dtype == "string" for tensor in (*self.inputs, *self.outputs))
            self.run = lambda names, feeds: call(names, feeds, None)

    def bind(self, outputs: Mapping[str, Any]) -> Bound | None:
        """Buffers bound through IOBinding; None for text and for types that numpy lacks."""
        return Bound(self._session, [tensor.name for tensor in self.outputs], outputs) if self._plain else None

    def close(self) -> None:
        """Drop the session: it is freed when the last run under way has ended."""
        self._session = None
        self.run = _closed


def _closed(names: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    from edgec_runtime.errors import UsageError

    raise UsageError("the model is closed", "it was used after close() or its with block", "load it again", code="E203")


class Bound(base.Bound):
    """An IOBinding whose outputs are given arrays. Not for two threads at once."""

    def __init__(self, session: Any, names: Sequence[str], outputs: Mapping[str, Any]) -> None:
        self._session = session
        self._outputs = dict(outputs)  # keeps the memory alive
        self._binding = session.io_binding()
        for name in names:
            array = self._outputs[name]
            self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self, feeds: Mapping[str, Any]) -> None:
        """Run; outputs of another shape than their buffers are an error of ONNX Runtime's."""
        binding = self._binding
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        self._session.run_with_iobinding(binding)


def _tensor(node: Any) -> base.Tensor:
    kind = node.type
    if not kind.startswith("tensor(") or not kind.endswith(")"):
        raise base.RefusedError(
            f"{node.name!r} is a {kind}",
            "edgec runs tensors; sequences, maps and optionals have no place in a bundle's inputs and outputs",
            "change the model so that its inputs and outputs are tensors",
        )
    name = kind[len("tensor(") : -1]
    dtype = TYPES.get(name, name)
    if dtype not in dtypes.BITS:
        raise base.RefusedError(f"{node.name!r} has the type {kind}, which edgec does not know")
    shape = node.shape
    return base.Tensor(node.name, dtype, None if shape is None else tuple(shape))
