"""Calibration: the right numbers, in memory that doesn't grow; bias correction helps or stays away; the report."""

import subprocess
import sys

import numpy as np
import pytest

from edgec import quantize as q
from edgec.quantize.session import Session, expose

RNG = np.random.default_rng(2)
W = RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.3
PAD = {"pads": [1, 1, 1, 1]}


@pytest.fixture
def model(build):
    nodes = [("Conv", ["x", "w", "b"], ["c"], PAD), ("Relu", ["c"], ["r"]), ("Conv", ["r", "w"], ["y"], PAD)]
    return build(nodes, {"x": [1, 8, 8, 8]}, ["y"], {"w": W, "b": RNG.standard_normal(8).astype(np.float32)})


@pytest.mark.parametrize("method", ["minmax", "histogram"])
def test_ranges_are_those_of_the_values(model, feeds, method):
    data = feeds(model)
    ranges = q.calibrate(model, data, method=method, percentile=100)
    session = Session(expose(model, ["c", "r", "y"]))
    seen = [dict(zip("cry", session.run(f), strict=True)) | f for f in data]
    for name in "xcry":
        low, high = min(s[name].min() for s in seen), max(s[name].max() for s in seen)
        np.testing.assert_allclose(ranges[name], (low, high), rtol=1e-5)
    assert ranges.samples == 8 and ranges.data == data.digest and not ranges.skipped


def test_only_the_values_asked_for(model, feeds):
    assert set(q.calibrate(model, feeds(model), values=["r", "no such value"])) == {"r"}
    assert set(q.ranges_needed(model, q.assign(model))) == {"x", "r", "y"}  # Relu is absorbed: not "c"


def test_progress_is_told(model, feeds):
    told = []
    q.calibrate(model, feeds(model, 3), progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_memory_does_not_grow_with_the_samples():
    """2 MiB values, up to 64, then 256 samples: what is kept of each is two numbers, or 4096 bins."""
    code = """
import resource, sys
import numpy as np, onnx_ir as ir
from onnx import helper, TensorProto, numpy_helper
from edgec import quantize as q
from edgec.data import Dataset
w = numpy_helper.from_array(np.ones((8, 1, 3, 3), 'f') / 9, 'w')
info = lambda n, c: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 256, 256])
nodes = [helper.make_node('Conv', ['x', 'w'], ['c'], pads=[1] * 4), helper.make_node('Relu', ['c'], ['y'])]
g = helper.make_graph(nodes, 'g', [info('x', 1)], [info('y', 8)], [w])
model = ir.from_proto(helper.make_model(g, opset_imports=[helper.make_opsetid('', 21)], ir_version=10))
def data(n):
    feeds = lambda: ({'x': np.full((1, 1, 256, 256), i, 'f')} for i in range(n))
    return Dataset(feeds, model.graph.inputs, describe='d')
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for method in ('minmax', 'histogram', 'output'):
    for n in (8, 32, 64):  # until the allocator has settled
        q.calibrate(model, data(n), method=method)
    a = peak()
    q.calibrate(model, data(256), method=method); print(peak() - a)
"""
    grown = [int(line) for line in subprocess.check_output([sys.executable, "-c", code], text=True).split()]
    assert max(grown) < 64 * 1024  # KiB: what the allocator keeps; 192 more samples of 2 MiB would be 384 MiB


def test_bias_correction_repairs_a_shift(build, feeds):
    """Weights all rounded the same way, on inputs that are never negative, shift every mean: what it is for."""
    step = 3.0 / 127  # one large weight a channel sets it
    weight = (step * (np.rint(RNG.standard_normal((16, 16, 3, 3)) * 4) + 0.3)).astype(np.float32)
    weight[:, 0, 0, 0] = 3.0
    nodes = []
    for i in range(4):
        nodes += [("Conv", [f"r{i}", "w", "b"], [f"c{i}"], PAD), ("Relu", [f"c{i}"], [f"r{i + 1}"])]
    model = build(nodes, {"r0": [1, 16, 12, 12]}, ["r4"], {"w": weight, "b": np.full(16, 0.5, np.float32)})
    data = feeds(model, 16)
    made = q.quantize_with_data(model, data)
    assert made.correction.kept
    assert made.correction.after > made.correction.before + 4
    alone = q.correct_biases(model, q.quantize_with_data(model, data, effort="plain").model, data)
    assert alone.kept and len(alone.shifts) == 4 and alone.after > alone.before + 4
    # Only biases changed: same operators, same fusion.
    plain = q.quantize_with_data(model, data, effort="plain")
    assert q.fusion_report(made.model) == q.fusion_report(plain.model)
    report = made.report(model)["corrections"]
    assert report["kept"] and report["sqnr_db_after"] > report["sqnr_db_before"]


def test_bias_correction_gives_a_layer_without_bias_one(build, feeds):
    model = build([("Conv", ["x", "w"], ["y"], PAD)], {"x": [1, 8, 8, 8]}, ["y"], {"w": W})
    assignment = q.assign(model)
    data = feeds(model, 12)
    quantized = q.quantize(model, q.calibrate(model, data), assignment)
    from edgec.quantize import bias_correction as bc

    copy = quantized.clone()
    found = bc._layers(model, copy)
    used = list(data)
    bc._correct(copy, found, bc._means(model, found, used), used, None)
    conv = next(n for n in copy.graph if n.op_type == "Conv")
    assert len(conv.inputs) == 3 and conv.inputs[2].producer().op_type == "DequantizeLinear"
    reference, corrected = Session(model), Session(copy, optimize=False)
    means = [np.mean([s.run(f)[0].mean((0, 2, 3)) for f in used], 0) for s in (reference, corrected)]
    step = float(conv.inputs[2].producer().inputs[1].const_value.numpy().max())
    output_step = max(abs(v) for v in q.calibrate(model, data)["y"]) / 127
    np.testing.assert_allclose(means[0], means[1], atol=step + output_step / 10)


def test_layer_sqnr_falls_along_the_graph(model, feeds):
    data = feeds(model)
    made = q.quantize_with_data(model, data, effort="plain")
    sqnr = q.layer_sqnr(model, made.model, data)
    assert sqnr["c"] > sqnr["y"] > 20
    rows = q.layer_table(model, made.assignment, made.ranges, sqnr)
    assert [r["op_type"] for r in rows] == ["Conv", "Relu", "Conv"]
    assert rows[2]["precision"] == "int8" and rows[2]["sqnr_db"] > 20 and len(rows[2]["range"]) == 2
