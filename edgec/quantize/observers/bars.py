"""A histogram as a report holds it: few bars over what was seen, in whole parts of a thousand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.quantize.observers.histogram import Histogram

BARS = 32


@dataclass(frozen=True)
class Bars:
    """How a value's elements are distributed.

    Attributes:
        low: the least that was seen.
        high: the largest.
        zeros: share of elements that are exactly zero (behind a Relu: most); they are in no bar.
        per_mille: of the other elements, in equal parts of low … high, rounded.
    """

    low: float
    high: float
    zeros: float
    per_mille: tuple[int, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "low": float(f"{self.low:.6g}"),
            "high": float(f"{self.high:.6g}"),
            "zeros": round(self.zeros, 4),
            "per_mille": list(self.per_mille),
        }


def bars(histogram: Histogram, count: int = BARS) -> Bars | None:
    """The bars of an unweighted histogram; None where nothing finite was seen."""
    low, high = histogram.range()
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        return None
    total = float(histogram.counts.sum())
    zeros = histogram.zeros / max(total + histogram.zeros, 1.0)
    if total == 0 or low == high:
        return Bars(low, high, zeros, (0,) * count if total == 0 else (1000, *(0,) * (count - 1)))
    # Through halves: high − low may be more than float can hold.
    place = (histogram.centres / 2 - low / 2) / (high / 2 - low / 2)
    index = np.clip(np.floor(place * count), 0, count - 1).astype(np.int64)
    heights = np.bincount(index, histogram.counts, count)
    return Bars(low, high, zeros, tuple(int(h) for h in np.rint(1000 * heights / total)))
