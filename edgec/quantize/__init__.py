"""int8 post-training quantization: ranges once (engine-neutral), an Assignment, Q/DQ by an engine's placement rules."""

from __future__ import annotations

from edgec.quantize.assign import assign
from edgec.quantize.bias_correction import BiasCorrection, correct_biases
from edgec.quantize.calibrate import calibrate, calibrate_many
from edgec.quantize.corrections.stages import Corrected, Stage, correct
from edgec.quantize.pipeline import Quantized, quantize, quantize_with_data, ranges_needed
from edgec.quantize.placement.fusion import FusionReport, fusion_report
from edgec.quantize.ranges import Ranges
from edgec.quantize.report import layer_sqnr, layer_table
from edgec.quantize.scheme import Assignment, Scheme
from edgec.quantize.splitting import split

__all__ = [
    "Assignment",
    "BiasCorrection",
    "Corrected",
    "FusionReport",
    "Quantized",
    "Ranges",
    "Scheme",
    "Stage",
    "assign",
    "calibrate",
    "calibrate_many",
    "correct",
    "correct_biases",
    "fusion_report",
    "layer_sqnr",
    "layer_table",
    "quantize",
    "quantize_with_data",
    "ranges_needed",
    "split",
]
