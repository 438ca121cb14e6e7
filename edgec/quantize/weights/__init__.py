"""Weight-only quantization: integers in the file, floats in the arithmetic. See docs/quantization_weights.md."""

from __future__ import annotations

from edgec.quantize.weights.embeddings import EmbeddingsQuantized, quantize_embeddings
from edgec.quantize.weights.groups import Format, Grouped
from edgec.quantize.weights.pipeline import quantize_weights
from edgec.quantize.weights.result import WeightsQuantized

__all__ = ["EmbeddingsQuantized", "Format", "Grouped", "WeightsQuantized", "quantize_embeddings", "quantize_weights"]
