"""An onnxruntime session on an onnx_ir model, for calibration and measurement on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgec.errors import BadInputError, UnsupportedError

# Above this many bytes of weights a model doesn't fit into one protobuf (2 GiB) and goes through a file.
_IN_MEMORY = 1 << 30


class Session:
    """Runs a model on CPU. Errors of the engine are raised as ours, with its words.

    Args:
        model: not changed.
        optimize: False runs the graph exactly as written (`ORT_DISABLE_ALL`).
        threads: intra-operator threads; 0 lets onnxruntime decide. They don't spin: waiting costs no CPU time.
        save_optimized: write the graph that the engine made of it there.
    """

    def __init__(
        self, model: ir.Model, *, optimize: bool = True, threads: int = 0, save_optimized: Path | None = None
    ) -> None:
        import onnxruntime

        ort: Any = onnxruntime
        options = ort.SessionOptions()
        levels = ort.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # what goes wrong comes as an exception
        # The arena and the memory pattern trade memory for speed that single samples don't need.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if save_optimized is not None:
            options.optimized_model_filepath = str(save_optimized)
        try:
            self._session = _open(ort, model, options)
        except Exception as problem:
            raise UnsupportedError(
                "onnxruntime can't load the model", str(problem), "see `edgec check`", code="E410"
            ) from problem
        self.outputs: list[str] = [o.name for o in self._session.get_outputs()]

    def run(self, feed: Mapping[str, np.ndarray], names: Sequence[str] | None = None) -> list[np.ndarray]:
        """The outputs, all or those named.

        Raises:
            BadInputError: the engine refused the feed or failed on it.
        """
        try:
            return list(self._session.run(names, dict(feed)))
        except Exception as problem:
            raise BadInputError(
                "the model can't be run on the data", str(problem), "try the sample with onnxruntime alone", code="E930"
            ) from problem


def expose(model: ir.Model, names: Iterable[str]) -> ir.Model:
    """A copy of the model whose outputs are the named values of its main graph, in that order."""
    copy = model.clone()
    values = {v.name: v for node in copy.graph for v in node.outputs}
    values |= {v.name: v for v in copy.graph.inputs}
    copy.graph.outputs.clear()
    copy.graph.outputs.extend(values[name] for name in names)
    return copy


def _open(ort: Any, model: ir.Model, options: Any) -> Any:
    initializers = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
    external = any(isinstance(t, ir.ExternalTensor) for t in initializers)
    if not external and sum(t.nbytes for t in initializers) < _IN_MEMORY:
        return ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="weights.bin")
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
