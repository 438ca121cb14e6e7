"""float16 and bfloat16 forms of a model: half the file, or arithmetic in 16 bits where a target runs it fast."""

from __future__ import annotations

from edgec.quantize.half.convert import Half, Report, to_half
from edgec.quantize.half.kinds import KINDS, Kind, Rounded, rounded
from edgec.quantize.half.simulate import simulated

__all__ = ["KINDS", "Half", "Kind", "Report", "Rounded", "rounded", "simulated", "to_half"]
