"""Loading and running a file in the engine, as a device would."""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgec_runtime.engines.hush import Hush
from edgec_targets.types import Problem

_LOAD = """
import sys
from ai_edge_litert.interpreter import Interpreter
try:
    Interpreter(model_content=sys.stdin.buffer.read(), num_threads=1).allocate_tensors()
except (RuntimeError, ValueError) as e:
    sys.stdout.write("refused: " + str(e))
else:
    sys.stdout.write("taken")
"""
_SECONDS = 300
_ASKED: dict[bytes, Problem | None] = {}
"""SHA-256 of a file -> what the engine said of it, in this process."""


def loads(data: bytes) -> Problem | None:
    """None where the interpreter takes the file and plans its memory; else the problem, in the engine's words.

    In a process of its own: some of the engine's checks end the process, and a compile must not end with it. Boards
    mostly get the same file: it is asked for once.
    """
    key = hashlib.sha256(data).digest()
    if key not in _ASKED:
        _ASKED[key] = _ask(data)
    return _ASKED[key]


def _ask(data: bytes) -> Problem | None:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _LOAD], input=data, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _problem(f"it takes more than {_SECONDS} seconds to load")
    said = done.stdout.decode(errors="replace")
    if done.returncode == 0 and said == "taken":
        return None
    if said.startswith("refused: "):
        return _problem(" ".join(said.removeprefix("refused: ").split())[:300])
    return _problem(f"it ends with status {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")


def _problem(words: str) -> Problem:
    return Problem("", "", f"ai-edge-litert refuses the file: {words}", "Use the onnxruntime payload.")


def run(
    data: bytes, feeds: Mapping[str, np.ndarray], *, kernels: str = "xnnpack", threads: int = 1
) -> dict[str, np.ndarray]:
    """Run a file once. `feeds` and the result are by the names of inputs and outputs.

    Args:
        data: the file.
        feeds: arrays of the inputs' shapes and types; names that the file lacks are ignored.
        kernels: "xnnpack" as devices run it; "builtin" without the delegate; "reference" TFLite's plain kernels.
        threads: of the engine.

    Raises RuntimeError or ValueError, the engine's own, where it refuses the file or an input.
    """
    return Runner(data, kernels=kernels, threads=threads)(feeds)


class Runner:
    """A loaded file, to be run many times. See `run`."""

    def __init__(self, data: bytes, *, kernels: str = "xnnpack", threads: int = 1) -> None:
        engine: Any = importlib.import_module("ai_edge_litert.interpreter")  # without types
        resolvers = {
            "xnnpack": engine.OpResolverType.AUTO,
            "builtin": engine.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            "reference": engine.OpResolverType.BUILTIN_REF,
        }
        with Hush():
            self._interpreter = engine.Interpreter(
                model_content=data, num_threads=threads, experimental_op_resolver_type=resolvers[kernels]
            )
            self._interpreter.allocate_tensors()
        self._inputs = {d["name"]: d["index"] for d in self._interpreter.get_input_details()}
        self._outputs = {d["name"]: d["index"] for d in self._interpreter.get_output_details()}

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run once."""
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, np.asarray(feeds[name], order="C"))
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}
