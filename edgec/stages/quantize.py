"""The int8 model of a fused one, by the quantization room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

import edgec_targets
from edgec import quantize
from edgec.errors import UnsupportedError
from edgec.progress import Progress
from edgec.quantize import portable
from edgec.request import Request
from edgec.stages.inputs import Inputs


@dataclass(frozen=True)
class Quantized:
    """The int8 model, None with the reason where no layer can be int8, and what the report tells of it.

    `narrow` is its variant with seven-bit weights, for boards whose CPUs may saturate; None where no board needs it.
    """

    model: ir.Model | None
    report: Mapping[str, Any] | None
    why_not: str = ""
    narrow: ir.Model | None = None

    @property
    def models(self) -> dict[str, ir.Model]:
        """What can be emitted, by the names that `choose.wanted` uses."""
        made = {"int8": self.model, portable.NARROW: self.narrow}
        return {name: model for name, model in made.items() if model is not None}


def run(model: ir.Model, inputs: Inputs, request: Request, progress: Progress) -> Quantized:
    """Quantize a copy of `model`. Raises UnsupportedError where int8 was asked for by name and nothing can be int8."""
    calibration = inputs.calibration
    assert calibration is not None, "gather() refuses int8 without data"
    boards = [edgec_targets.board(name) for name in request.boards]
    archs = {board.arch for board in boards}
    arch = archs.pop() if len(archs) == 1 else ""  # one model serves all: no kernel's costs hold for two

    def make(scheme: quantize.Scheme) -> quantize.Quantized:
        return quantize.quantize_with_data(
            model,
            calibration,
            method=request.method,
            exclude=request.exclude,
            scheme=scheme,
            effort=request.effort,
            arch=arch,
            progress=progress,
        )

    try:
        made = make(quantize.Scheme())
    except UnsupportedError as e:
        if request.precision == "int8":
            raise
        return Quantized(None, None, f"{e.what}: {e.why}")
    report = made.report(model)
    if not any(portable.may_saturate(board.arch, board.isa) for board in boards):
        return Quantized(made.model, report)
    narrow = make(portable.narrow(quantize.Scheme()))
    return Quantized(made.model, {**report, portable.NARROW: narrow.report(model)}, narrow=narrow.model)
