"""The int8 model of a fused one: ranges from the calibration data, an assignment, Q/DQ by the engine's rules."""

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
    """The int8 model and what is told of it in the report."""

    model: ir.Model | None
    """None where no layer can be int8."""
    report: Mapping[str, Any]


def run(model: ir.Model, inputs: Inputs, request: Request, progress: Progress) -> Quantized:
    """Calibrate, assign, place. `model` is left as it is."""
    assert inputs.calibration is not None, "gather() refuses int8 without data"
    assignment = quantize.assign(model, exclude=request.exclude)
    needed = quantize.ranges_needed(model, assignment)
    done = 0
    with progress("calibrating", inputs.calibration.count) as step:

        def advance(count: int, total: int | None) -> None:
            nonlocal done
            step(count - done)
            done = count

        ranges = quantize.calibrate(model, inputs.calibration, method=request.method, values=needed, progress=advance)
    with progress("placing Q/DQ", None):
        placed = quantize.quantize(model, ranges, assignment, placement="onnxruntime")
    counted = sum(node.op_type == "QuantizeLinear" for node in placed.graph)
    if not counted and request.precision == "int8":
        raise UnsupportedError(
            "nothing in this model can be int8",
            "It has no convolution, matrix product or other layer with weights that the engine runs in int8.",
            "Use --precision float32, or auto.",
            code="E410",
        )
    report = {
        "method": ranges.method,
        "samples": ranges.samples,
        "layers": {name: ("int8" if scheme else "float32") for name, scheme in assignment.items()},
        "skipped": dict(ranges.skipped),
    }
    return Quantized(placed if counted else None, report)
