"""Observers: ranges that are the best by their own measure, in bounded memory, whatever the data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec import quantize as q
from edgec.data import Dataset
from edgec.errors import BadInputError
from edgec.quantize.arithmetic import activation_parameters
from edgec.quantize.calibrate import METHODS, check_method
from edgec.quantize.observers import ChannelMinMax, Histogram, MovingAverage, entropy, least_error, percentile
from edgec.quantize.scheme import Scheme

RNG = np.random.default_rng(4)
COMMON = settings(max_examples=60)
arrays = hnp.arrays(
    np.float32,
    st.integers(1, 40),
    elements=st.floats(-(2.0**99), 2.0**99, width=32, allow_nan=False, allow_infinity=False),
)
CRITERIA = [
    least_error,
    lambda h: least_error(h, norm=4),
    lambda h: least_error(h, symmetric=True),
    lambda h: percentile(h, 99.9),
    entropy,
]


def seen(*xs, **options):
    h = Histogram(**options)
    for x in xs:
        h.update(x)
    return h


def noise(x, low, high):
    a = activation_parameters(low, high, Scheme())
    levels = np.clip(np.rint(x / a.scale) + a.zero_point, 0, 255)
    return float(np.mean(((levels - a.zero_point) * a.scale - x) ** 2))


@given(st.lists(arrays, min_size=1, max_size=4))
@COMMON
def test_every_range_lies_within_what_was_seen(xs):
    everything = np.concatenate(xs)
    for criterion in CRITERIA:
        low, high = criterion(seen(*xs, bins=512))
        assert everything.min() <= low <= high <= everything.max()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("value", [0.0, 3.5, -2.0, 1e30, 1e-38])
def test_constant_values_and_a_single_sample_keep_their_value(criterion, value):
    low, high = criterion(seen(np.full(5, value, np.float32)))
    assert low == high == np.float32(value)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_gives_no_range(criterion, bad):
    assert np.isnan(criterion(seen(np.float32([0, 1, bad, 2])))).all()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_nothing_seen(criterion):
    low, high = criterion(Histogram())
    assert low > high


@pytest.mark.parametrize("tail", [0.0, 1e-4])
def test_least_error_is_no_worse_than_the_extremes_and_better_with_a_heavy_tail(tail):
    x = np.maximum(RNG.standard_normal(200_000), 0).astype(np.float32)
    x[RNG.random(x.size) < tail / 20] = 30
    low, high = least_error(seen(x))
    assert noise(x, low, high) <= noise(x, x.min(), x.max()) * 1.02
    if tail:
        x[0] = 100
        low, high = least_error(seen(x))
        assert high < 95 and noise(x, low, high) < 0.95 * noise(x, x.min(), x.max())


def test_least_error_finds_the_minimum_of_a_brute_force_search():
    x = RNG.laplace(size=100_000).astype(np.float32)
    low, high = least_error(seen(x))
    best = min(noise(x, x.min() * a, x.max() * b) for a in np.linspace(0.3, 1, 15) for b in np.linspace(0.3, 1, 15))
    assert noise(x, low, high) <= best * 1.05


def test_zeros_make_no_rounding_error():
    """Behind a ReLU most elements are exactly zero: they must not argue for narrower steps."""
    x = RNG.exponential(size=20_000).astype(np.float32)
    sparse = np.concatenate([x, np.zeros(400_000, np.float32)])
    assert seen(sparse).zeros == 400_000
    assert least_error(seen(sparse))[1] == least_error(seen(x))[1]


def test_larger_norms_cut_less():
    x = RNG.laplace(size=100_000).astype(np.float32)
    highs = [least_error(seen(x), norm=n)[1] for n in (1, 2, 4)]
    assert highs == sorted(highs) and highs[0] < highs[2]
    with pytest.raises(ValueError, match="norm"):
        least_error(seen(x), norm=0.5)


def test_entropy_cuts_a_sparse_tail_and_leaves_a_uniform_value_alone():
    uniform = RNG.uniform(-1, 1, 200_000).astype(np.float32)
    assert entropy(seen(uniform))[1] > 0.95
    spiked = np.append(RNG.standard_normal(200_000), 60).astype(np.float32)
    assert 2 < entropy(seen(spiked))[1] < 30


def test_weighted_by_what_the_next_layer_makes_of_it():
    """A channel that no weight reads may be cut off as it likes."""
    x = np.stack([RNG.uniform(0, 1, 5000), RNG.uniform(0, 100, 5000)]).astype(np.float32)[None]
    assert least_error(seen(x, energy=np.array([1.0, 0.0])))[1] < 7  # fractions of 100 down to 0.05
    assert least_error(seen(x, energy=np.array([1.0, 1.0])))[1] > 50


def test_only_some_elements_of_a_large_value_are_counted_but_extremes_are_exact():
    x = RNG.standard_normal((1, 8, 100, 100)).astype(np.float32)
    h = seen(x, most=1000)
    assert 500 < h.counts.sum() + h.zeros < 2000
    assert h.range() == (x.min(), x.max())


def test_moving_average_forgets_one_odd_sample():
    o = MovingAverage()
    for k in range(50):
        o.update(np.float32([-1, 100 if k == 3 else 1]))
    low, high = o.range()
    assert low == pytest.approx(-1) and 1 < high < 1.2
    o.update(np.float32([np.nan]))
    assert np.isnan(o.range()[0])
    assert MovingAverage().range() == (np.inf, -np.inf)
    with pytest.raises(ValueError, match="momentum"):
        MovingAverage(1.0)


@pytest.mark.parametrize(("group", "groups"), [(1, 6), (2, 3), (4, 2), (10, 1)])
def test_extremes_by_channel_and_group(group, groups):
    xs = RNG.standard_normal((5, 1, 6, 4, 3)).astype(np.float32)
    o = ChannelMinMax(axis=1, group=group)
    for x in xs:
        o.update(x)
    low, high = o.ranges()
    assert low.shape == high.shape == (groups,)
    for g in range(groups):
        part = xs[:, :, g * group : (g + 1) * group]
        assert (low[g], high[g]) == (part.min(), part.max())
    with pytest.raises(ValueError, match="channels"):
        o.update(np.zeros((1, 60, 2), np.float32))


@pytest.fixture
def model(build):
    w = RNG.standard_normal((8, 4, 1, 1)).astype(np.float32)
    return build([("Conv", ["x", "w"], ["c"]), ("Relu", ["c"], ["y"])], {"x": [1, 4, 6, 6]}, ["y"], {"w": w})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_from_end_to_end(model, feeds, method):
    data = feeds(model)
    widest = q.calibrate(model, data)
    ranges = q.calibrate(model, data, method=method)
    assert ranges.method == method and ranges.samples == 8 and set(ranges) == set(widest)
    for name, (low, high) in ranges.items():
        assert widest[name][0] - 1e-6 <= low <= high <= widest[name][1] + 1e-6


def test_many_methods_from_one_pass_are_what_they_are_alone(model, feeds):
    data = feeds(model)
    many = q.calibrate_many(model, data, ["mse", "output", "l4"])
    for method, ranges in many.items():
        assert ranges == q.calibrate(model, data, method=method)


def test_infinite_values_are_skipped_by_every_method(build):
    model = build([("Exp", ["x"], ["e"]), ("Relu", ["e"], ["y"])], {"x": [1, 4]}, ["y"], {})
    data = Dataset.of([{"x": np.full((1, 4), 200, np.float32)}], model.graph.inputs)
    for method in METHODS:
        assert "y" in q.calibrate(model, data, method=method).skipped


def test_unknown_method():
    with pytest.raises(BadInputError, match="no calibration method"):
        check_method("magic")
