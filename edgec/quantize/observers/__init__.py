"""Streaming observers: what range a value takes over all samples, in memory that doesn't grow with them."""

from __future__ import annotations

from edgec.quantize.observers.bars import Bars, bars
from edgec.quantize.observers.channels import ChannelMinMax
from edgec.quantize.observers.entropy import entropy
from edgec.quantize.observers.error import least_error
from edgec.quantize.observers.histogram import Histogram
from edgec.quantize.observers.minmax import MinMax, MovingAverage, Observer
from edgec.quantize.observers.percentile import percentile

__all__ = [
    "Bars",
    "ChannelMinMax",
    "Histogram",
    "MinMax",
    "MovingAverage",
    "Observer",
    "bars",
    "entropy",
    "least_error",
    "percentile",
]
