"""One file a family of operators; each registers its writers."""

from __future__ import annotations

import functools
import importlib

_FAMILIES: tuple[str, ...] = (
    "activations",
    "convolution",
    "einsum",
    "elementwise",
    "indexing",
    "linear",
    "logic",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "shaping",
    "space",
    "transposed",
)


@functools.cache
def load() -> None:
    """Import the families, once."""
    for name in _FAMILIES:
        importlib.import_module(f"{__name__}.{name}")
