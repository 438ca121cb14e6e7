"""A budget in, the fastest assignment of integers that keeps it out (docs/search.md)."""

from __future__ import annotations

from edgec.quantize.search.meter import Metric, Reading
from edgec.quantize.search.outcome import Found, Point, in_words
from edgec.quantize.search.search import replay, search
from edgec.quantize.search.store import Store, default_path

__all__ = ["Found", "Metric", "Point", "Reading", "Store", "default_path", "in_words", "replay", "search"]
