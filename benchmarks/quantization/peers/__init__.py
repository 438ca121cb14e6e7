"""One file a tool, each with RECIPES; a tool is imported inside the functions that use it."""

from __future__ import annotations

import importlib

from benchmarks.quantization.recipe import Recipe

PEERS = {
    "edgec": "edgec",
    "onnxruntime": "onnxruntime",
    "nncf": "NNCF",
    "olive": "Olive",
    "onnx_neural_compressor": "onnx-neural-compressor",
    "aimet": "AIMET",
    "modelopt": "ModelOpt",
}
"""Module and environment, and how the table calls it."""


def recipes(peer: str) -> tuple[Recipe, ...]:
    """All ways of a peer that we compare."""
    module = importlib.import_module(f"benchmarks.quantization.peers.{peer}")
    return tuple(module.RECIPES)


def recipe_of(peer: str, name: str) -> Recipe:
    return next(r for r in recipes(peer) if r.name == name)
