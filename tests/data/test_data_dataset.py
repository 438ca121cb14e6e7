"""Passes over the user's data."""

import numpy as np

from edgec.data import Dataset, InputSpec


def test_small_data_is_read_twice_and_no_more():
    """A compile makes a dozen passes, and a user's loader may decode images; larger data is read each time."""
    passes = []

    def feeds(size):
        passes.append(size)
        buffer = np.zeros((1, size), np.float32)  # one array, filled again for each sample
        for n in range(4):
            buffer[:] = n
            yield {"x": buffer}

    for size, expected in ((8, 2), (4 << 20, 5)):
        passes.clear()
        inputs = [InputSpec("x", np.dtype(np.float32), (1, size))]
        data = Dataset(lambda size=size: feeds(size), inputs, describe="mine")
        values = [[float(feed["x"][0, 0]) for feed in data] for _ in range(5)]
        assert values == [[0.0, 1.0, 2.0, 3.0]] * 5
        assert len(passes) == expected
        assert [float(feed["x"][0, 0]) for feed in data.select(1, None, 2)] == [1.0, 3.0]
        assert len(passes) == expected + (expected > 2)
