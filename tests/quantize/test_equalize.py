"""Cross-layer equalization: the same model, whatever the chain is made of; int8 that fails without it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.data import Dataset, sqnr_db
from edgec.errors import BadInputError
from edgec.quantize.corrections.equalize import equalize
from edgec.quantize.corrections.equalize.choose import equalize_where_better
from edgec.quantize.corrections.equalize.linear import linear
from edgec.quantize.corrections.equalize.ties import groups
from edgec.quantize.scheme import Scheme
from edgec.quantize.session import Session

Build = Callable[..., ir.Model]
Feeds = Callable[..., Dataset]
PAD = {"pads": [1, 1, 1, 1]}
X = {"x": [1, 3, 8, 8]}


def weights(seed: int = 0, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        k: (rng.standard_normal(s) * (0.3 if k[0] == "b" else (2 / np.prod(s[1:])) ** 0.5)).astype(np.float32)
        for k, s in shapes.items()
    }


def depthwise(wild: float, seed: int = 0) -> tuple[list, dict[str, np.ndarray]]:
    """A MobileNet-like chain whose channels are scaled by up to 2^±wild and back: in float it is the same network."""
    constants = weights(
        seed, w0=(16, 3, 3, 3), b0=(16,), d1=(16, 1, 3, 3), b1=(16,), p1=(24, 16, 1, 1), b2=(24,),
        d2=(24, 1, 3, 3), b3=(24,), p2=(16, 24, 1, 1), b4=(16,), fc=(10, 16), b5=(10,),
    )  # fmt: skip
    rng = np.random.default_rng(seed + 1)
    chain = [("w0", "b0", "d1"), ("d1", "b1", "p1"), ("p1", "b2", "d2"), ("d2", "b3", "p2"), ("p2", "b4", "fc")]
    for before, bias, behind in chain:
        factor = (2 ** rng.uniform(-wild, wild, len(constants[bias]))).astype(np.float32)
        constants[before] *= factor.reshape(-1, 1, 1, 1)
        constants[bias] *= factor
        depthwise = constants[behind].ndim == 4 and constants[behind].shape[1] == 1
        shape = (-1, 1, 1, 1) if depthwise else (1, -1) + (1,) * (constants[behind].ndim - 2)
        constants[behind] /= factor.reshape(shape)
    nodes = [
        ("Conv", ["x", "w0", "b0"], ["c0"], PAD), ("Relu", ["c0"], ["r0"]),
        ("Conv", ["r0", "d1", "b1"], ["c1"], PAD | {"group": 16}), ("Relu", ["c1"], ["r1"]),
        ("Conv", ["r1", "p1", "b2"], ["c2"]), ("Relu", ["c2"], ["r2"]),
        ("Conv", ["r2", "d2", "b3"], ["c3"], PAD | {"group": 24}), ("Relu", ["c3"], ["r3"]),
        ("Conv", ["r3", "p2", "b4"], ["c4"]), ("Relu", ["c4"], ["r4"]),
        ("GlobalAveragePool", ["r4"], ["g"]), ("Flatten", ["g"], ["f"]),
        ("Gemm", ["f", "fc", "b5"], ["y"], {"transB": 1}),
    ]  # fmt: skip
    return nodes, constants


def decibels(model: ir.Model, other: ir.Model, data: Dataset) -> float:
    a, b = Session(model), Session(other)
    return sqnr_db([x for f in data for x in a.run(f)], [x for f in data for x in b.run(f)])


@pytest.mark.parametrize("scheme", [Scheme(), Scheme(per_channel=False)], ids=["per channel", "per tensor"])
def test_wild_channels_break_int8_and_equalization_repairs_it(build: Build, feeds: Feeds, scheme: Scheme) -> None:
    nodes, constants = depthwise(5.0)
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 16)
    plain = q.quantize_with_data(model, data, effort="plain", scheme=scheme)
    made = equalize(model, data)
    assert made.changed and made.difference < 1e-4 and len(made.scaled) == 5
    repaired = q.quantize_with_data(made.model, data, effort="plain", scheme=scheme)
    assert decibels(model, plain.model, data) < 12
    assert decibels(model, repaired.model, data) > 22


def test_values_decide_where_weights_have_a_scale_each(build: Build, feeds: Feeds) -> None:
    nodes, constants = depthwise(4.0)
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 16)
    made = equalize(model, data, by="activations")
    assert made.difference < 1e-4
    plain = q.quantize_with_data(model, data, effort="plain")
    repaired = q.quantize_with_data(made.model, data, effort="plain")
    assert decibels(model, repaired.model, data) > decibels(model, plain.model, data) + 10


CHAINS = {
    "relu": (["Relu"], True),
    "leaky": (["LeakyRelu"], True),
    "prelu": (["PRelu"], True),
    "pools and pads": (["Relu", "MaxPool", "AveragePool", "Pad"], True),
    "constants by channel": (["AddConstant", "Relu", "MulConstant"], True),
    "residual": (["Relu", "Residual", "Relu"], True),
    "gate": (["Relu", "Gate"], True),
    "resize": (["Relu", "Resize"], True),
    "clip without bound": (["ClipZero"], True),
    "sigmoid": (["Sigmoid"], False),
    "hardswish": (["HardSwish"], False),
    "offset outside": (["Relu", "Softmax"], False),
    "transposed": (["Relu", "Transpose"], False),
}


def chain(kinds: list[str]) -> tuple[list, dict[str, np.ndarray]]:
    constants = weights(3, w=(8, 3, 3, 3), b=(8,), v=(5, 8, 3, 3), g=(8, 8, 1, 1), k=(8, 1, 1), s=(8, 1, 1))
    constants["w"] *= np.logspace(-2, 2, 8, dtype=np.float32).reshape(-1, 1, 1, 1)
    constants |= {
        "zero": np.float32(0), "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "sizes": np.float32([1, 1, 2, 2]),
        "roi": np.zeros(0, np.float32),
    }  # fmt: skip
    nodes: list = [("Conv", ["x", "w", "b"], ["v0"], PAD)]
    for i, kind in enumerate(kinds):
        a, b = f"v{i}", f"v{i + 1}"
        nodes += {
            "PRelu": [("PRelu", [a, "s"], [b])],
            "MaxPool": [("MaxPool", [a], [b], PAD | {"kernel_shape": [3, 3]})],
            "AveragePool": [("AveragePool", [a], [b], {"kernel_shape": [2, 2]})],
            "Pad": [("Pad", [a, "pads"], [b])],
            "AddConstant": [("Add", ["k", a], [b])],
            "MulConstant": [("Mul", [a, "s"], [b])],
            "Residual": [("Conv", [a, "g"], ["side"]), ("Add", ["side", a], [b])],
            "Gate": [
                ("GlobalAveragePool", [a], ["m"]), ("Conv", ["m", "g"], ["h"]), ("Sigmoid", ["h"], ["t"]),
                ("Mul", [a, "t"], [b]),
            ],
            "Resize": [("Resize", [a, "", "sizes"], [b], {"mode": "nearest"})],
            "ClipZero": [("Clip", [a, "zero"], [b])],
            "Transpose": [("Transpose", [a], [b], {"perm": [0, 1, 3, 2]})],
        }.get(kind, [(kind, [a], [b])])  # fmt: skip
    nodes.append(("Conv", [f"v{len(kinds)}", "v"], ["y"]))
    used = {i for n in nodes for i in n[1]}
    return nodes, {k: v for k, v in constants.items() if k in used}


@pytest.mark.parametrize("by", ["weights", "activations"])
@pytest.mark.parametrize("name", CHAINS)
def test_the_model_stays_the_same_through_every_chain(build: Build, feeds: Feeds, name: str, by: str) -> None:
    kinds, scalable = CHAINS[name]
    nodes, constants = chain(kinds)
    model = build(nodes, X, ["y"], constants)
    before = ir.to_proto(model).SerializeToString()
    data = feeds(model, 4)
    made = equalize(model, data, by=by, biases=False)
    assert ir.to_proto(model).SerializeToString() == before
    assert bool(made.scaled) is scalable
    if scalable:
        assert max(s.largest for s in made.scaled) > 2
        assert made.difference < 1e-4 and decibels(model, made.model, data) > 90
    else:
        assert made.model is model


@settings(max_examples=12)
@given(st.integers(0, 10**6), st.floats(0, 6))
def test_any_channels_come_out_the_same(build: Build, feeds: Feeds, seed: int, wild: float) -> None:
    nodes, constants = depthwise(wild, seed)
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 3)
    made = equalize(model, data)
    assert decibels(model, made.model, data) > 80


def relu6(scale: float) -> tuple[list, dict[str, np.ndarray]]:
    constants = weights(5, w=(4, 3, 1, 1), b=(4,), v=(5, 4, 1, 1)) | {"lo": np.float32(0), "hi": np.float32(6)}
    constants["w"] *= np.float32([1e-2, 1e-1, 1, 100]).reshape(-1, 1, 1, 1) * scale
    nodes = [("Conv", ["x", "w", "b"], ["c"]), ("Clip", ["c", "lo", "hi"], ["r"]), ("Conv", ["r", "v"], ["y"])]
    return nodes, constants


def test_a_bound_is_not_crossed_and_channels_that_reach_it_stay(build: Build, feeds: Feeds) -> None:
    nodes, constants = relu6(1.0)
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 8)
    made = equalize(model, data, by="activations", alpha=1.0)
    assert made.scaled and made.difference < 1e-5
    weight = next(linear(n) for n in made.model.graph if n.outputs[0].name == "c")
    assert weight is not None
    np.testing.assert_allclose(weight.by_output()[3], np.abs(constants["w"][3]).max(), rtol=1e-6)  # it reaches six
    assert weight.by_output()[0] > 5 * np.abs(constants["w"][0]).max()
    assert not equalize(model).scaled  # without data nobody knows what reaches the bound


def test_high_biases_move_into_the_layer_behind(build: Build, feeds: Feeds) -> None:
    constants = weights(6, w=(4, 3, 1, 1), v=(5, 4, 1, 1)) | {"b": np.float32([50, 0, 60, 0])}
    nodes = [("Conv", ["x", "w", "b"], ["c"]), ("Relu", ["c"], ["r"]), ("Conv", ["r", "v"], ["y"])]
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 8)
    made = equalize(model, data)
    assert made.absorbed == {"r": 2} and made.difference < 1e-5
    plain, better = (q.quantize_with_data(m, data, effort="plain") for m in (model, made.model))
    assert decibels(model, better.model, data) > decibels(model, plain.model, data) + 3
    padded = build([*nodes[:2], ("Conv", ["r", "v"], ["y"], PAD)], X, ["y"], constants)
    assert equalize(padded, data).absorbed == {}  # zeros from outside would mean the offset


def test_what_is_seen_outside_is_not_scaled(build: Build) -> None:
    nodes, constants = chain(["Relu"])
    assert groups(build(nodes, X, ["y"], constants))
    assert not groups(build(nodes, X, ["y", "v1"], constants))  # an output of the graph
    shared = [*nodes, ("Conv", ["x", "w"], ["z"], PAD)]
    assert not groups(build(shared, X, ["y", "z"], constants))  # another layer reads the weight
    assert not groups(build(nodes, X, ["y"], constants, infer=False))  # no shapes


def test_dead_and_constant_channels_are_safe(build: Build, feeds: Feeds) -> None:
    nodes, constants = chain(["Relu"])
    constants["w"][:2] = 0
    constants["b"][:2] = -1
    constants["v"][:, 3] = 0
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 4)
    for by in ("weights", "activations"):
        made = equalize(model, data, by=by)
        assert made.difference < 1e-4
        values = [v.const_value.numpy() for v in made.model.graph.initializers.values()]
        assert all(np.isfinite(v).all() for v in values)


def test_bad_arguments(build: Build, feeds: Feeds) -> None:
    nodes, constants = chain(["Relu"])
    model = build(nodes, X, ["y"], constants)
    with pytest.raises(ValueError, match="alpha"):
        equalize(model, feeds(model), alpha=1.5)
    with pytest.raises(ValueError, match="data"):
        equalize(model, by="activations")
    bad = Dataset.of([{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}], model.graph.inputs)
    with pytest.raises(BadInputError):
        equalize(model, bad)


def test_same_bytes_every_time(build: Build, feeds: Feeds) -> None:
    nodes, constants = depthwise(3.0)
    model = build(nodes, X, ["y"], constants)
    a, b = (ir.to_proto(equalize(model, feeds(model)).model).SerializeToString(deterministic=True) for _ in "ab")
    assert a == b


def test_held_out_samples_decide(build: Build, feeds: Feeds) -> None:
    nodes, constants = depthwise(5.0)
    model = build(nodes, X, ["y"], constants)
    data = feeds(model, 16)

    def plain(m: ir.Model) -> ir.Model:
        return q.quantize_with_data(m, data, effort="plain").model

    quantized = plain(model)
    outcome = equalize_where_better(model, quantized, data, plain)
    assert outcome.kept and outcome.after > outcome.before + 10 and outcome.equalized.changed
    worse = equalize_where_better(model, outcome.quantized, data, lambda _: quantized)
    assert not worse.kept and worse.quantized is outcome.quantized
    few = equalize_where_better(model, quantized, feeds(model, 3), plain)
    assert not few.kept and few.equalized is None and few.quantized is quantized
