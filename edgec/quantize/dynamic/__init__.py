"""Dynamic int8: integer weights, activations quantized at run time by their own range. Needs no data; data helps."""

from __future__ import annotations

from edgec.quantize.dynamic.model import DynamicLayer, DynamicQuantized, DynamicStage, quantize_dynamic

__all__ = ["DynamicLayer", "DynamicQuantized", "DynamicStage", "quantize_dynamic"]
