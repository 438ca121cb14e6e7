"""int8 post-training quantization: ranges once (engine-neutral), an Assignment, Q/DQ by an engine's placement rules."""

from __future__ import annotations

import onnx_ir as ir

from edgec.quantize.assign import assign
from edgec.quantize.calibrate import calibrate
from edgec.quantize.placement import rules
from edgec.quantize.placement.fusion import FusionReport, fusion_report
from edgec.quantize.placement.insert import insert
from edgec.quantize.placement.plan import plan
from edgec.quantize.ranges import Ranges
from edgec.quantize.scheme import Assignment, Scheme


def quantize(model: ir.Model, ranges: Ranges, assignment: Assignment, *, placement: str = "onnxruntime") -> ir.Model:
    """A new model with Q/DQ where the engine fuses them, integer weights and biases. Deterministic.

    Args:
        model: float model (opset ≥ 13); not changed.
        ranges: from `calibrate`; nodes that need a range that is not there stay float.
        assignment: from `assign`.
        placement: whose fusion rules decide.

    Raises:
        UnsupportedError: the opset is too old.
        MissingError: no placement rules of that name.
    """
    engine = rules(placement)
    copy = model.clone()
    engine.prepare(copy, assignment)
    insert(copy, plan(copy, assignment, engine, ranges.__contains__), ranges, min_opset=engine.min_opset)
    return copy


def ranges_needed(model: ir.Model, assignment: Assignment, *, placement: str = "onnxruntime") -> list[str]:
    """The values whose ranges `quantize` will ask for: `calibrate(…, values=…)` then looks at no others."""
    engine = rules(placement)
    copy = model.clone()
    engine.prepare(copy, assignment)
    return plan(copy, assignment, engine).ranges_needed


__all__ = [
    "Assignment",
    "FusionReport",
    "Ranges",
    "Scheme",
    "assign",
    "calibrate",
    "fusion_report",
    "quantize",
    "ranges_needed",
]
