"""What unseen samples are expected to show, and which layers stay float for it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.quantize import layers
from edgec.quantize.corrections import expected as ex
from edgec.quantize.corrections import spare as sp
from edgec.quantize.corrections.expected import Expected
from edgec.quantize.session import Session


def classifier(build, weight, last="Softmax"):
    nodes = [("MatMul", ["x", "w"], ["l"]), *([(last, ["l"], ["y"])] if last else [])]
    return build(nodes, {"x": [1, 8]}, ["y" if last else "l"], {"w": np.asarray(weight, np.float32)})


def samples(n, seed, width=8):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1, (1, width)).astype(np.float32)} for _ in range(n)]


@given(st.floats(0, 12))
def test_the_normal_distribution_is_near_enough(x):
    assert abs(float(ex._normal(np.array(x))) - 0.5 * (1 + math.erf(x / math.sqrt(2)))) < 2e-7


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
@pytest.mark.parametrize(("last", "classes"), [("Softmax", 5), (None, 5), ("Sigmoid", 1)])
def test_few_samples_tell_what_many_would_count(build, noise, last, classes):
    rng = np.random.default_rng(3)
    weight = rng.normal(0, 1, (8, classes))
    model, other = classifier(build, weight, last), classifier(build, weight + rng.normal(0, noise, weight.shape), last)
    many = samples(4000, 5)
    a, b = Session(model), Session(other)
    decide = (lambda y: y[0].argmax()) if classes > 1 else (lambda y: bool(y[0, 0] > 0.5))
    counted = np.mean([decide(a.run(f)[0]) == decide(b.run(f)[0]) for f in many])
    assert abs(Expected(model, samples(64, 6))(other) - counted) < 0.035


def test_the_same_model_is_alike_and_a_broken_one_is_not(build):
    weight = np.random.default_rng(1).normal(0, 1, (8, 5))
    model = classifier(build, weight)
    judge = Expected(model, samples(8, 2))
    assert judge(model) == 1.0
    assert judge(classifier(build, np.full((8, 5), np.nan))) == 0.0


def test_outputs_that_decide_nothing_keep_their_energy_or_direction(build):
    weight = np.random.default_rng(1).normal(0, 1, (8, 6))
    shape = np.array([1, 1, 6, 1])
    nodes = [("MatMul", ["x", "w"], ["l"]), ("Reshape", ["l", "s"], ["y"])]

    def made(w):
        return build(nodes, {"x": [1, 8]}, ["y"], {"w": w.astype(np.float32), "s": shape})

    assert Expected(made(weight), samples(8, 2))(made(0.9 * weight)) == pytest.approx(0.99, abs=1e-4)
    unit = [("LpNormalization", ["l"], ["y"], {"axis": 1, "p": 2})]
    rows = [build([nodes[0], *unit], {"x": [1, 8]}, ["y"], {"w": w.astype(np.float32)}) for w in (weight, 3 * weight)]
    assert Expected(rows[0], samples(8, 2))(rows[1]) == pytest.approx(1.0, abs=1e-6)


def test_noise_of_samples_that_were_not_fitted_on_counts_alone(build):
    weight = np.random.default_rng(1).normal(0, 1, (8, 5))
    model, other = (
        classifier(build, weight),
        classifier(build, weight + np.random.default_rng(2).normal(0, 0.2, (8, 5))),
    )
    judge = Expected(model, samples(8, 2))
    assert judge(other, noise_of=slice(3, None, 4)) != judge(other)


def chain(build, kernels):
    """Pointwise and depthwise convolutions of eight channels in turn, the last one with few outputs."""
    nodes, value = [], "x"
    for i, kernel in enumerate(kernels):
        groups = 8 if kernel.shape[1] == 1 else 1
        pads = [kernel.shape[2] // 2] * 4
        nodes.append(("Conv", [value, f"w{i}"], [f"c{i}"], {"group": groups, "pads": pads}, f"conv{i}"))
        nodes.append(("Relu", [f"c{i}"], [f"r{i}"]))
        value = f"r{i}"
    nodes += [("GlobalAveragePool", [value], ["g"]), ("Flatten", ["g"], ["l"]), ("Softmax", ["l"], ["y"])]
    return build(nodes, {"x": [1, 8, 12, 12]}, ["y"], {f"w{i}": k.astype(np.float32) for i, k in enumerate(kernels)})


def noisy_start(build):
    """The second layer's channels span 1 … 10⁴ and the third one undoes it: eight bits keep one channel there."""
    rng = np.random.default_rng(7)
    spread = np.logspace(0, 4, 8)
    kernels = []
    for i in range(16):
        kernel = rng.normal(0.2, 1, (8, 1, 3, 3) if i % 2 else (8, 8, 1, 1)) / (3 if i % 2 else 2)
        if i == 1:
            kernel *= spread[:, None, None, None]
        if i == 2:
            kernel /= spread[None, :, None, None]
        kernels.append(kernel)
    return chain(build, kernels)


def test_stretches_begin_or_end_the_model_and_cost_what_they_hold(build):
    model = noisy_start(build)
    assignment = q.assign(model)
    found = sp.stretches(model, assignment, sp.by_bytes(model))
    assert [s.cost for s in found] == sorted(s.cost for s in found)
    weights = sum(layers.constant(n.inputs[1]).size for n in model.graph if n.op_type == "Conv")
    by_name = {s.name: s for s in found}
    assert by_name["last 4 layers"].floats == ("conv12", "conv13", "conv14", "conv15")
    assert by_name["last 2 layers"].cost == pytest.approx(3 * (64 + 72) / weights)
    assert by_name["first 2 layers"].floats == ("conv0", "conv1")  # the last layer is not small here
    assert all(len(s.floats) < 16 for s in found)
    free = sp.stretches(model, assignment, lambda floats: 0.0)
    assert next(s for s in free if s.name.startswith("first 2 ")).floats == ("conv0", "conv1", "conv15")


class Told:
    """Stands in for `Expected`: models are numbers already."""

    def __call__(self, model, *, noise_of):
        return model


@pytest.mark.parametrize(
    ("before", "values", "taken"),
    [
        (0.999, [1.0, 1.0], None),  # not needed
        (0.97, [0.98, 0.996, 0.999], 1),  # the cheapest that is enough
        (0.97, [0.975, 0.9769], None),  # not worth it: under a quarter of the disagreement
        (0.97, [0.985, 0.9899, 0.99], 1),  # the best would cost more for nothing
        (0.97, [0.96, 0.95], None),
    ],
)
def test_the_cheapest_stretch_that_is_enough_is_taken(before, values, taken):
    offered = [sp.Stretch(f"s{i}", (f"n{i}",), i / 10) for i in range(len(values))]
    told = {(): before} | {s.floats: value for s, value in zip(offered, values, strict=True)}
    made = sp.spare(Told(), offered, [lambda floats: told[tuple(floats)]] * sp.FOLDS)
    assert made.stretch == (None if taken is None else offered[taken])
    assert made.before == pytest.approx(before)
    assert made.after == pytest.approx(before if taken is None else values[taken])


def test_nothing_is_spared_without_samples_or_stretches():
    assert sp.folds(samples(3, 1), []) == []
    assert sp.spare(Told(), [], [lambda floats: 0.0]).stretch is None
    assert sp.spare(Told(), [sp.Stretch("s", ("n",), 0.0)], []).stretch is None


def test_a_noisy_start_stays_float_where_integers_pay_by_size_alone(build, feeds):
    model = noisy_start(build)
    made = q.quantize_with_data(model, feeds(model, 12), arch="x86_64")
    assert not made.worth.pays
    report = made.report(model)
    spared = report["spared"]
    assert spared["kept_float"].startswith("first") and {"conv0", "conv1", "conv2"} <= set(spared["layers"])
    assert spared["cost"] <= 1 and len(spared["layers"]) < 10
    assert spared["expected_likeness_after"] > spared["expected_likeness_before"]
    assert 0.5 < report["expected_likeness"] <= 1
    named = {n.name: n for n in made.model.graph}
    for name, node in named.items():
        if name.startswith("conv"):
            integer = node.inputs[1].producer() is not None
            assert integer is (name not in spared["layers"]), name
    rows = {row["name"]: row["precision"] for row in report["layers"]}
    assert rows["conv1"] == "float32" and rows["conv9"] == "int8"


def test_where_integers_are_faster_nothing_is_looked_for(build, feeds):
    model = noisy_start(build)
    made = q.quantize_with_data(model, feeds(model, 8), arch="")
    assert made.spared is None and "spared" not in made.report(model)
