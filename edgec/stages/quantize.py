"""The int8 model of a fused one, by the quantization room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgec import quantize
from edgec.errors import UnsupportedError
from edgec.progress import Progress
from edgec.request import Request
from edgec.stages.inputs import Inputs


@dataclass(frozen=True)
class Quantized:
    """The int8 model, None with the reason where no layer can be int8, and what the report tells of it."""

    model: ir.Model | None
    report: Mapping[str, Any] | None
    why_not: str = ""


def run(model: ir.Model, inputs: Inputs, request: Request, progress: Progress) -> Quantized:
    """Quantize a copy of `model`. Raises UnsupportedError where int8 was asked for by name and nothing can be int8."""
    assert inputs.calibration is not None, "gather() refuses int8 without data"
    try:
        made = quantize.quantize_with_data(
            model,
            inputs.calibration,
            method=request.method,
            exclude=request.exclude,
            effort=request.effort,
            progress=progress,
        )
    except UnsupportedError as e:
        if request.precision == "int8":
            raise
        return Quantized(None, None, e.what)
    return Quantized(made.model, made.report(model))
