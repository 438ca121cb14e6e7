"""The writers of ONNX's operators, by family."""

from __future__ import annotations

import functools
import importlib

_FAMILIES = ("activations", "arithmetic", "convolution", "linear", "normalization", "pooling", "recurrent", "resize",
             "shaping")  # fmt: skip


@functools.cache
def load() -> None:
    """Register them all."""
    for family in _FAMILIES:
        importlib.import_module(f"edgec_targets.emitters.ncnn.ops.{family}")
