"""Loading a file into the engine, as a device would."""

from __future__ import annotations

import importlib

from edgec_targets.types import Problem


def loads(data: bytes) -> Problem | None:
    """None where the interpreter takes the file and plans its memory; else the problem, in the engine's words."""
    try:
        interpreter = importlib.import_module("ai_edge_litert.interpreter")  # without types
    except ImportError:
        return None  # `schema` has already said what is missing where the file could not be written without it
    try:
        interpreter.Interpreter(model_content=data, num_threads=1).allocate_tensors()
    except (RuntimeError, ValueError) as e:
        words = " ".join(str(e).split())
        return Problem("", "", f"ai-edge-litert refuses the file: {words[:300]}", "Use the onnxruntime payload.")
    return None
