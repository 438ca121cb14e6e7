"""The arithmetic, against ONNX's reference operators bit for bit, and against the definitions."""

import numpy as np
import onnx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx.reference import ReferenceEvaluator

from edgec.quantize.arithmetic import activation_parameters, quantize, quantize_weight
from edgec.quantize.observers import Histogram, MinMax, percentile
from edgec.quantize.scheme import Scheme

LIMIT = float(np.float32(1e30))
FINITE = st.floats(-LIMIT, LIMIT, width=32)
SCHEMES = [
    Scheme(),
    Scheme(symmetric_activation=True),
    Scheme(activation="int8"),
    Scheme(activation="int8", symmetric_activation=True),
]


def reference(op, *inputs):
    kinds = {np.dtype("float32"): 1, np.dtype("uint8"): 2, np.dtype("int8"): 3}
    names = ["x", "s", "z"]
    node = onnx.helper.make_node(op, names, ["y"])
    infos = [onnx.helper.make_tensor_value_info(n, kinds[i.dtype], None) for n, i in zip(names, inputs, strict=True)]
    graph = onnx.helper.make_graph([node], "g", infos, [onnx.helper.make_tensor_value_info("y", 0, None)])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("scheme", SCHEMES)
@given(a=FINITE, b=FINITE)
def test_zero_is_exact_and_the_range_is_covered(scheme, a, b):
    p = activation_parameters(min(a, b), max(a, b), scheme)
    info = np.iinfo(p.dtype)
    assert info.min <= p.zero_point <= info.max  # so that scale·(zero_point − zero_point) = 0
    assert np.float32(p.scale) == p.scale >= np.finfo(np.float32).tiny
    slack = p.scale * 0.5000002 + 1e-37
    assert p.low <= min(a, b, 0) + slack and p.high >= max(a, b, 0) - slack


@given(
    x=arrays(np.float32, 20, elements=st.floats(-1e6, 1e6, width=32)),
    scale=st.floats(np.float32(1e-3), 1e3, width=32),
    zero=st.integers(0, 255),
)
def test_quantize_is_quantizelinear_bit_for_bit(x, scale, zero):
    ours = quantize(x, scale, zero, 0, 255)
    theirs = reference("QuantizeLinear", x, np.float32(scale), np.uint8(zero))
    np.testing.assert_array_equal(ours, theirs)


@given(st.integers(-100, 100), st.sampled_from([0.25, 0.5, 1.0, 2.0]))
def test_ties_go_to_even(n, scale):
    assert quantize(np.float32([(n + 0.5) * scale]), scale, 0, -127, 127)[0] == n + (n % 2)


@given(arrays(np.float32, (4, 3), elements=FINITE), st.sampled_from([None, 0, 1]), st.sampled_from([127, 63]))
def test_weights_are_symmetric_and_within_half_a_step(w, axis, qmax):
    q = quantize_weight(w, axis=axis, qmax=qmax)
    assert q.data.dtype == np.int8 and np.abs(q.data.astype(int)).max() <= qmax
    scale = q.scale if axis is None else np.expand_dims(q.scale, 1 - axis)
    error = np.abs(w.astype(np.float64) - q.data * scale.astype(np.float64))
    # Half a step, plus float32's rounding of the scale itself, times up to 127.
    assert (error <= scale * (0.5 + 127 * 2e-7)).all()
    assert (q.scale > 0).all() and np.isfinite(q.scale).all()


@given(
    w=arrays(np.float32, (3, 4), elements=st.floats(-10, 10, width=32)),
    b=arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32)),
    s=st.floats(np.float32(1e-30), 1e6, width=32),
)
def test_bias_fits_and_is_nearly_exact(w, b, s):
    q = quantize_weight(w, axis=0, bias=b, activation_scale=s)
    assert q.bias.dtype == np.int32
    assert np.abs(q.bias.astype(np.int64)).max() <= 2**30 * (1 + 1e-6)
    np.testing.assert_array_equal(q.bias_scale, np.float32(s) * q.scale)
    error = np.abs(q.bias * q.bias_scale.astype(np.float64) - b)
    assert (error <= 0.5 * q.bias_scale.astype(np.float64) + np.abs(b) * 1e-9).all()


def test_dead_channel_keeps_its_bias():
    w = np.float32([[0, 0], [1, -2]])
    q = quantize_weight(w, axis=0, bias=np.float32([3.7, 0]), activation_scale=1e-3)
    assert q.data[0].tolist() == [0, 0]
    assert q.bias[0] * float(q.bias_scale[0]) == pytest.approx(float(np.float32(3.7)), rel=1e-8)


def test_all_zero_weight_and_dead_relu_have_scale_one():
    assert quantize_weight(np.zeros((2, 2), np.float32), axis=0).scale.tolist() == [1, 1]
    assert activation_parameters(0, 0, Scheme()).scale == 1.0
    assert activation_parameters(5, 5, Scheme()).high == pytest.approx(5)  # constant channel


def test_seven_bit_weights():
    q = quantize_weight(np.float32([[1.0, -1.0]]), axis=0, qmax=Scheme(weight_bits=7).weight_max)
    assert q.data.tolist() == [[63, -63]]


# Not so small that shifting them by the histogram's factor rounds them to zero.
VALUES = st.floats(-1e4, 1e4, width=32).map(lambda v: v if abs(v) > 1e-9 else 0.0)
samples = st.lists(arrays(np.float32, st.integers(1, 30), elements=VALUES), min_size=1, max_size=6)


@given(samples)
def test_minmax_is_numpys(xs):
    o = MinMax()
    for x in xs:
        o.update(x)
    everything = np.concatenate(xs)
    assert o.range() == (everything.min(), everything.max())


@given(samples)
def test_histogram_counts_everything_and_stays_within_what_was_seen(xs):
    o = Histogram(bins=64)
    for x in xs:
        o.update(x)
    everything = np.concatenate(xs)
    low, high = percentile(o, 90)
    assert o.counts.sum() + o.zeros == everything.size and o.counts.size == 64
    assert everything.min() <= low <= high <= everything.max()


@given(samples)
def test_histogram_of_all_the_mass_is_minmax(xs):
    o = Histogram()
    for x in xs:
        o.update(x)
    everything = np.concatenate(xs)
    assert percentile(o, 100) == o.range() == (everything.min(), everything.max())


@given(samples)
def test_histogram_grows_to_what_it_would_have_been(xs):
    """Growing by doubling and merging loses nothing: the counts are those over the final range."""
    o = Histogram(bins=64)
    for x in xs:
        o.update(x)
    assume(o._power is not None)
    edges = np.linspace(-(2.0**o._power), 2.0**o._power, 65)
    everything = np.concatenate(xs).astype(np.float64)
    expected, _ = np.histogram(everything[everything != 0], edges)
    np.testing.assert_array_equal(o.counts, expected)


def test_percentile_drops_an_outlier_but_minmax_does_not():
    x = np.linspace(0, 1, 100_000, dtype=np.float32)
    spiked = np.append(x, np.float32(1000))
    a, b = Histogram(), MinMax()
    a.update(spiked)
    b.update(spiked)
    assert b.range()[1] == 1000
    assert percentile(a, 99.9)[0] == 0 and percentile(a, 99.9)[1] < 1.6  # a bin is 2·1024/4096 wide


def test_values_that_are_not_finite_give_no_range():
    for o in (MinMax(), Histogram()):
        o.update(np.float32([1, np.inf]))
        o.update(np.float32([1]))
        assert np.isnan(o.range()[0])


def test_nothing_seen():
    assert MinMax().range() == (np.inf, -np.inf)
    o = Histogram()
    o.update(np.zeros(0, np.float32))
    assert o.range() == (np.inf, -np.inf)


def test_histogram_rejects_nonsense():
    for arguments in ({"bins": 100}, {"bins": 2}, {"most": 0}):
        with pytest.raises(ValueError, match="must be"):
            Histogram(**arguments)
    with pytest.raises(ValueError, match="must be"):
        percentile(Histogram(), 40)
