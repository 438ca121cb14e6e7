"""A sample outside the calibrated range saturates: all there is to a fuzzed graph that lost to 8 dB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgec import quantize as q
from edgec.data import Dataset, sqnr_db
from edgec.quantize.ranges import Ranges
from edgec.quantize.session import Session


def test_a_bottleneck_of_one_number_is_right_within_its_range_and_cut_off_outside(
    build: Callable[..., ir.Model],
) -> None:
    """All the graph knows goes through one number, of which calibration saw two dozen."""
    rng = np.random.default_rng(353)
    constants = {
        "w": rng.standard_normal((2, 1)).astype(np.float32),
        "v": rng.standard_normal((1, 19)).astype(np.float32),
        "b": rng.standard_normal(19).astype(np.float32) * 0.1,
    }
    model = build([("MatMul", ["x", "w"], ["n"]), ("Gemm", ["n", "v", "b"], ["y"])], {"x": [2, 2]}, ["y"], constants)
    feeds = [{"x": rng.standard_normal((2, 2)).astype(np.float32)} for _ in range(12)]
    made = q.quantize_with_data(model, Dataset.of(feeds, model.graph.inputs), effort="plain")
    beyond = [{"x": 2.5 * max(feeds, key=lambda f: np.abs(f["x"] @ constants["w"]).max())["x"]}]
    wide = Ranges({name: (3 * low, 3 * high) for name, (low, high) in made.ranges.items()})

    def decibels(quantized: ir.Model, samples: list[dict[str, np.ndarray]]) -> float:
        a, b = Session(model), Session(quantized)
        return sqnr_db([a.run(f)[0] for f in samples], [b.run(f)[0] for f in samples])

    assert decibels(made.model, feeds) > 30
    assert decibels(made.model, beyond) < 10
    assert decibels(q.quantize(model, wide, made.assignment), beyond) > 30
