"""What report.json says of a quantization: histograms, noise and the precision that layers really have."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.quantize.observers import Histogram, bars


def made(arrays):
    histogram = Histogram()
    for array in arrays:
        histogram.update(np.asarray(array, np.float32))
    return bars(histogram)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=60))
def test_bars_hold_everything_that_was_seen(values):
    found = made([values])
    array = np.array(values, np.float32)
    assert (found.low, found.high) == (array.min(), array.max())
    assert found.zeros == pytest.approx((array == 0).mean())
    assert len(found.per_mille) == 32 and all(0 <= n <= 1000 for n in found.per_mille)
    assert abs(sum(found.per_mille) - (0 if (array == 0).all() else 1000)) <= 16  # rounded one by one
    json.dumps(found.as_dict(), allow_nan=False)


def test_bars_are_numpys_histogram_but_for_the_finer_bins_at_their_borders():
    array = np.random.default_rng(1).normal(0.5, 1, 20000).astype(np.float32)
    found = made(np.split(array, 4))
    counts, _ = np.histogram(array, 32, (found.low, found.high))
    np.testing.assert_allclose(found.per_mille, 1000 * counts / array.size, atol=4)


@pytest.mark.parametrize("bad", [[np.nan], [np.inf, 1], []])
def test_nothing_finite_has_no_bars(bad):
    assert made([bad]) is None


def test_a_constant_and_zeros_alone_are_bars_too():
    assert made([[3.0, 3.0]]).per_mille == (1000, *(0,) * 31)
    assert made([[0.0, 0.0]]).zeros == 1 and sum(made([[0.0]]).per_mille) == 0


@pytest.fixture(scope="module")
def model(build):
    rng = np.random.default_rng(2)
    shapes = {"w0": (16, 3, 3, 3), "w1": (32, 16, 1, 1), "w2": (32, 32, 3, 3), "w3": (64, 32, 1, 1)}
    nodes, value = [], "x"
    for i in range(4):
        nodes += [("Conv", [value, f"w{i}"], [f"c{i}"], {}, f"conv{i}"), ("Relu", [f"c{i}"], [f"r{i}"], {}, f"relu{i}")]
        value = f"r{i}"
    weights = {k: rng.normal(0, 0.3, s).astype(np.float32) for k, s in shapes.items()}
    return build([*nodes, ("GlobalAveragePool", [value], ["y"])], {"x": [1, 3, 12, 12]}, ["y"], weights)


def test_layers_that_the_engine_does_not_fuse_are_reported_as_float(model, feeds):
    plain = q.quantize_with_data(model, feeds(model, 4), placement="tensorrt", effort="plain")
    rows = {row["name"]: row["precision"] for row in plain.report(model)["layers"]}
    assert rows["conv0"] == rows["relu0"] == "float32"  # a stem
    assert rows["conv2"] == rows["conv3"] == "int8"
    everything = q.quantize_with_data(model, feeds(model, 4), effort="plain", arch="")
    rows = {row["name"]: row["precision"] for row in everything.report(model)["layers"]}
    assert {rows[f"conv{i}"] for i in range(4)} == {rows[f"relu{i}"] for i in range(4)} == {"int8"}


def test_default_effort_reports_histograms_and_noise(model, feeds):
    found = q.quantize_with_data(model, feeds(model, 8), arch="")
    report = found.report(model)
    rows = {row["name"]: row for row in report["layers"]}
    shown = rows["relu1"]["histogram"]
    assert 0.2 < shown["zeros"] < 0.8 and shown["low"] == 0 and sum(shown["per_mille"]) == pytest.approx(1000, abs=16)
    assert rows["relu1"]["range"][1] <= shown["high"] * 1.001
    assert 20 < rows["conv3"]["sqnr_db"] <= rows["conv0"]["sqnr_db"] + 3
    assert all({"name", "kept", "sqnr_db_before", "sqnr_db_after"} == set(s) for s in report["corrections"]["stages"])
    assert 0.9 < report["expected_likeness"] <= 1
    assert len(json.dumps(report, allow_nan=False)) < 8000
