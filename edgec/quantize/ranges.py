"""Ranges: value name -> (min, max) over the calibration data, engine-neutral."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgec.quantize.observers.bars import Bars


@dataclass(frozen=True)
class Ranges(Mapping[str, tuple[float, float]]):
    """What each value was seen to take, with where it came from.

    Attributes:
        by_name: value name -> (min, max), finite.
        method: how they were taken.
        samples: over how many feeds.
        data: digest of the calibration data.
        skipped: value name -> why it has no range (never computed, infinite); nodes that need it stay float.
        bars: value name -> how its elements are distributed, where a histogram was taken; for reports alone.
    """

    by_name: Mapping[str, tuple[float, float]]
    method: str = "minmax"
    samples: int = 0
    data: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)
    bars: Mapping[str, Bars] = field(default_factory=dict, compare=False, repr=False)

    def __getitem__(self, name: str) -> tuple[float, float]:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)
