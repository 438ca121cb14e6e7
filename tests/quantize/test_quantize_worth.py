"""Which layers stay float for speed: the cut is the cheapest there is, and the rules known from the profile hold."""

import itertools
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.quantize.placement import rules
from edgec.quantize.placement.costs import node_cost
from edgec.quantize.placement.mincut import Network
from edgec.quantize.placement.worth import worthwhile

ORT = rules("onnxruntime")
edges = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 9)), max_size=16)


def cut_cost(found, side):
    return sum(c for a, b, c in found if a in side and b not in side)


@settings(max_examples=80)
@given(edges)
def test_cut_costs_as_little_as_the_best_of_all(found):
    network = Network()
    for edge in found:
        network.edge(*edge)
    side = network.source_side(0, 5)
    best = min(cut_cost(found, {0, *s}) for n in range(5) for s in itertools.combinations(range(1, 5), n))
    assert 0 in side and 5 not in side and cut_cost(found, side) == best


def test_infinite_edges_are_never_cut():
    network = Network()
    for edge in (("s", "a", 1.0), ("a", "b", inf), ("b", "t", 3.0)):
        network.edge(*edge)
    assert network.source_side("s", "t") == {"s"}
    network.edge("s", "a", inf)
    assert network.source_side("s", "t") == {"s", "a", "b"}


def test_network_refuses_nonsense():
    with pytest.raises(ValueError, match="capacity"):
        Network().edge("a", "b", -1)
    with pytest.raises(ValueError, match="capacity"):
        Network().edge("a", "b", float("nan"))
    network = Network()
    network.edge("s", "t", inf)
    with pytest.raises(ValueError, match="infinite"):
        network.source_side("s", "t")


def image_model(build, channels=64, size=64):
    """The usual start of an image model: 3 channels, depthwise, then dense layers."""
    rng = np.random.default_rng(0)
    weights = {
        "w0": (16, 3, 3, 3), "w1": (16, 1, 3, 3), "w2": (channels, 16, 1, 1), "w3": (channels, channels, 3, 3),
    }  # fmt: skip
    constants = {k: rng.standard_normal(s).astype(np.float32) for k, s in weights.items()}
    nodes = [
        ("Conv", ["x", "w0"], ["a"], {"pads": [1] * 4, "strides": [2, 2]}, "first"),
        ("Conv", ["a", "w1"], ["b"], {"pads": [1] * 4, "group": 16}, "depthwise"),
        ("Conv", ["b", "w2"], ["c"], {}, "wide"),
        ("Conv", ["c", "w3"], ["y"], {"pads": [1] * 4}, "dense"),
    ]
    return build(nodes, {"x": [1, 3, size, size]}, ["y"], constants)


def test_first_layer_of_an_image_model_stays_float_and_dense_ones_dont(build):
    model = image_model(build, size=256)
    worth = worthwhile(model, q.assign(model), ORT, "x86_64")
    assert worth.pays and worth.assignment["dense"] is not None
    assert worth.assignment["first"] is None and worth.assignment["depthwise"] is None
    assert set(worth.dropped) == {n for n, s in worth.assignment.items() if s is None}


def test_other_architectures_lose_nothing(build):
    model = image_model(build)
    worth = worthwhile(model, q.assign(model), ORT, "aarch64")
    assert worth.pays and not worth.dropped and all(worth.assignment.values())


def test_where_integers_pay_nowhere_the_assignment_stays_and_says_so(build):
    weight = np.ones((8, 1, 3, 3), np.float32)
    nodes = [("Conv", ["x", "w"], ["y"], {"group": 8}, "only")]
    model = build(nodes, {"x": [1, 8, 64, 64]}, ["y"], {"w": weight})
    worth = worthwhile(model, q.assign(model), ORT, "x86_64")
    assert not worth.pays and worth.assignment["only"] is not None


def test_what_is_excluded_stays_excluded(build):
    model = image_model(build)
    worth = worthwhile(model, q.assign(model, exclude=["dense"]), ORT, "x86_64")
    assert worth.assignment["dense"] is None and "dense" not in worth.dropped


def test_free_dimensions_and_missing_shapes_are_no_obstacle(build):
    weight = np.ones((32, 32, 3, 3), np.float32)
    nodes = [("Conv", ["x", "w"], ["y"], {}, "only")]
    for shape in (["n", 32, "h", "w"], [1, 32, 40, 40]):
        model = build(nodes, {"x": shape}, ["y"], {"w": weight})
        assert set(worthwhile(model, q.assign(model), ORT, "x86_64").assignment) == {"only"}
    model = build(nodes, {"x": [1, 32, 40, 40]}, ["y"], {"w": weight}, infer=False)
    model.graph.outputs[0].shape = None
    assert set(worthwhile(model, q.assign(model), ORT, "x86_64").assignment) == {"only"}


def test_dense_layers_gain_and_depthwise_lose(build):
    model = image_model(build)
    costs = {node.name: node_cost(node) for node in model.graph}
    assert costs["dense"].in_float > 2 * costs["dense"].in_integer
    assert costs["depthwise"].in_integer > 2 * costs["depthwise"].in_float


def test_result_is_the_same_each_time(build, feeds):
    model = image_model(build)
    made = [q.quantize_with_data(model, feeds(model)) for _ in range(2)]
    assert made[0].worth == made[1].worth
    assert made[0].report(model)["worth"]["pays"]
