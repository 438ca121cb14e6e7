"""Corrections: the algebra, the walk, and that nothing is kept that held-out samples don't confirm."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.data import Dataset
from edgec.quantize.corrections import judge, patches, stages
from edgec.quantize.corrections.least_squares import Moments, round_in_turn, solve
from edgec.quantize.corrections.lockstep import quantized_layers, walk
from edgec.quantize.corrections.reconstruct import KINDS, from_matrix, reconstruct, to_matrix
from edgec.quantize.session import Session, expose

RNG = np.random.default_rng(6)
PAD = {"pads": [1, 1, 1, 1]}
COMMON = settings(max_examples=30)


def moments(x, y, groups=1):
    made = Moments.empty(groups, x.shape[2], y.shape[1] // groups)
    half = x.shape[1] // 2
    made.add(x[:, :half], y[:half])
    made.add(x[:, half:], y[half:])
    return made


def correlated(n, d):
    return (RNG.standard_normal((1, n, 3)) @ RNG.standard_normal((3, d)) + 0.1 * RNG.standard_normal((1, n, d))).astype(
        np.float32
    )


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**31))
@COMMON
def test_error_is_that_of_the_layer_with_the_best_bias(d, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((1, 50, d)).astype(np.float32), rng.standard_normal((50, m)).astype(np.float32)
    w = rng.standard_normal((1, m, d))
    rest = y - x[0] @ w[0].T
    expected = np.square(rest - rest.mean(0)).sum(0)
    np.testing.assert_allclose(moments(x, y).error(w)[0], expected, rtol=1e-3)


def test_solve_without_ridge_is_least_squares_and_with_a_large_one_stays():
    x, start = correlated(400, 6), RNG.standard_normal((1, 4, 6))
    y = (x[0] @ RNG.standard_normal((6, 4))).astype(np.float32) + 2
    m = moments(x, y)
    assert m.error(solve(m, start, 1e-9)).sum() < 1e-3 * m.error(start).sum()
    np.testing.assert_allclose(solve(m, start, 1e9), start, atol=1e-6)


@pytest.mark.parametrize("block", [1, 4, 64])
def test_rounding_in_turn_beats_the_nearest_integer_and_does_not_depend_on_the_block(block):
    x = correlated(600, 20)
    w, scale = RNG.standard_normal((1, 8, 20)) * 0.5, np.full((1, 8), 0.1)
    m = moments(x, (x[0] @ w[0].T).astype(np.float32))
    made = round_in_turn(w, scale, m.centred()[0], 127, block=block)
    np.testing.assert_array_equal(made, round_in_turn(w, scale, m.centred()[0], 127, block=7))
    nearest = np.rint(w / scale[:, :, None])
    assert m.error(made * 0.1).sum() < 0.5 * m.error(nearest * 0.1).sum()
    assert np.abs(made - w / scale[:, :, None]).max() < 8


@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([127, 63]), st.floats(1e-20, 1e20))
@COMMON
def test_rounding_stays_within_the_type_for_any_scale_of_the_data(d, m, limit, magnitude):
    rng = np.random.default_rng(d * 10 + m)
    x = (rng.standard_normal((2, 30, d)) * magnitude).astype(np.float32)
    w = rng.standard_normal((2, m, d)) * 1e3
    xx = x.astype(np.float64).transpose(0, 2, 1) @ x
    made = round_in_turn(w, np.ones((2, m)), xx, limit)
    assert np.abs(made).max() <= limit


def test_dead_features_are_rounded_to_nearest():
    x = correlated(100, 5)
    x[:, :, 2] = 0
    w = RNG.standard_normal((1, 3, 5))
    for xx in ((x[0].T @ x[0])[None].astype(np.float64), np.zeros((1, 5, 5))):
        made = round_in_turn(w, np.full((1, 3), 0.1), xx, 127)
        np.testing.assert_array_equal(made[..., 2], np.rint(w / 0.1)[..., 2])


CONVOLUTIONS = [
    ({"pads": [1, 1, 1, 1]}, (6, 4, 3, 3)),
    ({"pads": [0, 1, 2, 0], "strides": [2, 1]}, (6, 4, 3, 2)),
    ({"dilations": [2, 2]}, (6, 4, 2, 2)),
    ({"group": 4, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, (8, 1, 3, 3)),
    ({"group": 2, "auto_pad": "SAME_LOWER"}, (6, 2, 2, 2)),
    ({"auto_pad": "VALID"}, (6, 4, 1, 1)),
]


@pytest.mark.parametrize(("attributes", "shape"), CONVOLUTIONS)
def test_rows_times_weights_are_the_convolution(build, attributes, shape):
    w = RNG.standard_normal(shape).astype(np.float32)
    model = build([("Conv", ["x", "w"], ["y"], attributes)], {"x": [2, 4, 7, 8]}, ["y"], {"w": w})
    x = RNG.standard_normal((2, 4, 7, 8)).astype(np.float32)
    (y,) = Session(model).run({"x": x})
    node = next(iter(model.graph))
    geometry = patches.geometry(node, shape, x.shape)
    a, b = patches.rows(x, y, geometry, 40, np.random.default_rng(0), node)
    assert a.shape[1] == len(b) == min(40, y.shape[0] * y.shape[2] * y.shape[3])
    matrix = to_matrix(node, w, geometry)
    got = (a @ matrix.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(len(b), -1)
    np.testing.assert_allclose(got, b, atol=1e-4)
    np.testing.assert_array_equal(from_matrix(node, matrix, shape), w)


def network(build, **more):
    """Coarse steps (one large weight a channel), branches, a pool and a Gemm at the end."""
    rng = np.random.default_rng(8)
    w = rng.standard_normal((12, 12, 3, 3)).astype(np.float32) * 0.1
    w[:, 0, 0, 0] = 2
    v = rng.standard_normal((12, 12, 3, 3)).astype(np.float32) * 0.1
    v[:, 1, 1, 1] = 2
    constants = {
        "w": w, "v": v, "d": rng.standard_normal((12, 1, 3, 3)).astype(np.float32),
        "b": np.full(12, 0.3, np.float32), "g": rng.standard_normal((12, 5)).astype(np.float32), **more,
    }  # fmt: skip
    nodes = [
        ("Conv", ["x", "w", "b"], ["c1"], PAD), ("Relu", ["c1"], ["r1"]),
        ("Conv", ["r1", "d"], ["c2"], PAD | {"group": 12}), ("Relu", ["c2"], ["r2"]),
        ("Conv", ["r1", "v", "b"], ["c3"], PAD), ("Add", ["r2", "c3"], ["s"]),
        ("Conv", ["s", "v"], ["c4"], PAD), ("Relu", ["c4"], ["r4"]),
        ("GlobalAveragePool", ["r4"], ["p"]), ("Flatten", ["p"], ["f"]), ("Gemm", ["f", "g"], ["y"]),
    ]  # fmt: skip
    return build(nodes, {"x": [1, 12, 8, 8]}, ["y"], constants)


def test_the_walk_gives_each_layer_what_the_models_give_it(build, feeds):
    model = network(build)
    data = list(feeds(model, 3))
    made = q.quantize_with_data(model, feeds(model, 8), effort="plain", arch="any").model
    found = quantized_layers(model, made, KINDS)
    assert [f.reference.name for f in found] == ["c1", "c2", "c3", "c4", "y"]
    floats = Session(expose(model, [f.reference.name for f in found]), optimize=False)
    copy = made.clone()
    names = list(dict.fromkeys(f.integers.name for f in found))
    for value in (v for n in copy.graph for v in n.outputs if v.name in names):
        value.dtype = ir.DataType.UINT8
    integers = Session(expose(copy, names), optimize=False)
    want = [dict(zip(integers.outputs, integers.run(f), strict=True)) for f in data]
    expected = [floats.run(f) for f in data]
    for k, (layer, xs, ys) in enumerate(walk(model, made, found, data)):
        for i in range(len(data)):
            np.testing.assert_array_equal(xs[i], want[i][layer.integers.name])
            np.testing.assert_allclose(ys[i], expected[i][k], atol=1e-5)


def test_reconstruction_gains_and_changes_nothing_but_numbers(build, feeds):
    model = network(build)
    data = feeds(model, 24)
    plain = q.quantize_with_data(model, data, effort="plain", arch="any").model
    before = ir.to_proto(plain).SerializeToString()
    made = reconstruct(model, plain, list(data)[:16])
    assert ir.to_proto(plain).SerializeToString() == before
    verdict = judge.Judge(model, list(data)[16:])
    assert verdict(made).sqnr > verdict(plain).sqnr + 1.5 and verdict(made).beats(verdict(plain))
    assert q.fusion_report(made).integer == q.fusion_report(plain).integer
    again = reconstruct(model, plain, list(data)[:16])
    assert ir.to_proto(again).SerializeToString() == ir.to_proto(made).SerializeToString()  # deterministic


def test_a_weight_that_another_layer_reads_is_left_alone(build, feeds):
    w = RNG.standard_normal((8, 8, 3, 3)).astype(np.float32) * 0.1
    # The same input scale for both: one dequantized weight.
    model = build(
        [("Conv", ["x", "w"], ["a"], PAD), ("Conv", ["x", "w"], ["b"], PAD | {"pads": [1, 1, 1, 1]})],
        {"x": [1, 8, 6, 6]}, ["a", "b"], {"w": w},
    )  # fmt: skip
    plain = q.quantize_with_data(model, feeds(model), effort="plain", arch="any").model
    made = reconstruct(model, plain, list(feeds(model)))
    weights = [
        [n.inputs[1].producer().inputs[0].const_value.numpy() for n in m.graph if n.op_type == "Conv"]
        for m in (plain, made)
    ]
    for old, new in zip(*weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_seven_bits_stay_seven_bits(build, feeds):
    model = network(build)
    data = feeds(model, 16)
    made = q.quantize_with_data(model, data, scheme=q.Scheme(weight_bits=7), arch="any")
    assert any(s.name.startswith("least squares") and s.kept for s in made.correction.stages)
    for value in made.model.graph.initializers.values():
        if value.dtype == ir.DataType.INT8:
            assert np.abs(value.const_value.numpy().astype(int)).max(initial=0) <= 63


def test_default_is_never_worse_than_minmax_on_held_out_samples_and_says_what_was_tried(build, feeds):
    model = network(build)
    made = q.quantize_with_data(model, feeds(model, 24), arch="any")
    corrected = made.correction
    assert corrected.kept and corrected.after > corrected.before
    names = [s.name for s in corrected.stages]
    assert names[:3] == ["ranges: histogram", "ranges: mse", "ranges: output"] and names[3].startswith("least squares")
    level = corrected.before
    for stage in corrected.stages:
        assert stage.before == pytest.approx(level)
        level = stage.after if stage.kept else level
    assert level == pytest.approx(corrected.after)


def test_what_does_not_help_is_dropped(build, feeds, monkeypatch):
    model = network(build)
    data = feeds(model, 16)
    plain = q.quantize_with_data(model, data, effort="plain", arch="any").model

    def harmful(model, quantized, used, **_):
        made = reconstruct(model, quantized, used[:1], ridge=1e-6)
        for value in made.graph.initializers.values():
            if value.dtype == ir.DataType.INT8:
                value.const_value = ir.Tensor(-value.const_value.numpy(), name=value.name)
        return made

    monkeypatch.setattr(stages, "reconstruct", harmful)
    corrected = q.correct(model, {"minmax": plain}, data)
    assert [s.kept for s in corrected.stages[:2]] == [False, False] and corrected.stages[2].name == "bias correction"
    assert corrected.after >= corrected.before


@pytest.mark.parametrize("n", [1, 3])
def test_too_few_samples_to_hold_one_out_change_nothing(build, feeds, n):
    model = network(build)
    plain = q.quantize_with_data(model, feeds(model, n), effort="plain", arch="any").model
    corrected = q.correct(model, {"minmax": plain}, feeds(model, n))
    assert corrected.model is plain and not corrected.kept and corrected.stages == ()


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e12])
def test_dead_and_huge_inputs(build, feeds, scale):
    model = network(build)
    data = feeds(model, 8, scale=scale)
    made = q.quantize_with_data(model, data, arch="any")
    (y,) = Session(made.model).run(next(iter(data)))
    assert np.isfinite(y).all()


def test_verdicts_of_undefined_numbers_never_win(build):
    worse, undefined = judge.Verdict(10.0, -1.0), judge.Verdict(float("nan"), float("nan"))
    assert not undefined.beats(worse) and judge.Verdict(11.0, -1.1).beats(worse)
    assert not judge.Verdict(11.0, -0.9).beats(worse)  # better in sum thanks to one sample


def test_every_fourth_sample_is_held_out(build):
    model = build([("Relu", ["x"], ["y"])], {"x": [1]}, ["y"], {})
    data = Dataset.of([{"x": np.float32([k])} for k in range(12)], model.graph.inputs)
    used, kept = judge.split(data, 100, 100)
    assert [float(f["x"][0]) for f in kept] == [3, 7, 11] and len(used) == 9
    used, kept = judge.split(data, 3, 1)
    assert len(used) == 3 and len(kept) == 1
