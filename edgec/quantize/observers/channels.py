"""Extremes by channel, or by group of channels."""

from __future__ import annotations

import numpy as np


class ChannelMinMax:
    """The smallest and largest value of each channel (or group of neighbouring channels) over all samples.

    Args:
        axis: the channels' axis.
        group: how many neighbouring channels share a range; the last group may be smaller.
    """

    def __init__(self, axis: int = 1, group: int = 1) -> None:
        if group < 1:
            raise ValueError("group must be at least 1")
        self._axis, self._group = axis, group
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None

    def update(self, x: np.ndarray) -> None:
        """Take one sample's float array.

        Raises:
            ValueError: the number of channels differs from the samples before.
        """
        if x.size == 0:
            return
        by_channel = np.moveaxis(x, self._axis, 0).reshape(x.shape[self._axis], -1)
        starts = np.arange(0, len(by_channel), self._group)
        low = np.minimum.reduceat(by_channel.min(1), starts).astype(np.float64)
        high = np.maximum.reduceat(by_channel.max(1), starts).astype(np.float64)
        if self._low is None or self._high is None:
            self._low, self._high = low, high
        elif low.shape != self._low.shape:
            raise ValueError(f"{len(low)} groups of channels, {len(self._low)} before")
        else:  # NaN stays NaN
            self._low, self._high = np.minimum(self._low, low), np.maximum(self._high, high)

    def ranges(self) -> tuple[np.ndarray, np.ndarray]:
        """(min, max), float64 of shape (groups,); empty when nothing was seen. NaN where a NaN passed."""
        if self._low is None or self._high is None:
            return np.zeros(0), np.zeros(0)
        return self._low, self._high
