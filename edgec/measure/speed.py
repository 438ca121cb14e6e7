"""How much faster int8 is than float32 on this machine: in turn, in one run (see `edgec.measure.interleaved`)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgec.measure.engine import executable
from edgec_targets.types import Built

ROUNDS = 15
TURN = 0.02  # seconds that one turn should take at least


def time_ratio(one: Built, other: Built, feed: Mapping[str, NDArray[Any]]) -> float:
    """Median over rounds of one's time over other's on `feed` (1.0: the same), two digits, both in this process."""
    with executable(one) as first, executable(other) as second:
        runs = (first, second)
        calls = []
        for run in runs:
            run(feed)
            start = time.perf_counter()
            run(feed)
            calls.append(max(1, int(TURN / max(time.perf_counter() - start, 1e-6))))
        ratios = []
        for turn in range(ROUNDS):
            seconds = [0.0, 0.0]
            for n in (0, 1) if turn % 2 else (1, 0):
                start = time.perf_counter()
                for _ in range(calls[n]):
                    runs[n](feed)
                seconds[n] = (time.perf_counter() - start) / calls[n]
            ratios.append(seconds[0] / seconds[1])
    return round(statistics.median(ratios), 2)
