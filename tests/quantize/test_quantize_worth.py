"""Which layers stay float for speed: the cut is the cheapest there is, and the rules known from the profile hold."""

import itertools
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec import quantize as q
from edgec.data import Dataset
from edgec.quantize.placement import rules
from edgec.quantize.placement.costs import Cost, node_cost
from edgec.quantize.placement.mincut import Network
from edgec.quantize.placement.share import Way, fewest, share
from edgec.quantize.placement.worth import Split, worthwhile

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


class Fixed:
    """Kernels that cost what a table says; conversions cost `border` each."""

    def __init__(self, table, border=1.0):
        self.table, self.border = table, border

    def node_cost(self, node):
        return Cost(*self.table.get(node.name, (0.0, 0.0)))

    def to_integer(self, value):
        return self.border

    def to_float(self, value):
        return self.border


TABLES = (
    {"first": (5.0, 20.0), "depthwise": (4.0, 9.0), "wide": (30.0, 8.0), "dense": (50.0, 10.0)},
    {"first": (40.0, 20.0), "depthwise": (9.0, 4.0), "wide": (30.0, 8.0), "dense": (50.0, 10.0)},
    {"first": (40.0, 39.0), "depthwise": (9.0, 9.0), "wide": (30.0, 8.0), "dense": (50.0, 10.0)},
)


def ways(build, tables):
    model = image_model(build)
    made = []
    for number, table in enumerate(tables):
        split = Split(model, q.assign(model), ORT, Fixed(table))
        made.append(Way("board", f"engine {number}", split, split.best()))
    return made


def test_kernels_that_are_given_decide(build):
    model = image_model(build)
    worth = worthwhile(model, q.assign(model), ORT, "aarch64", Fixed(TABLES[0]))
    assert worth.dropped == ("first", "depthwise") and worth.pays
    assert worthwhile(model, q.assign(model), ORT, "x86_64", Fixed(TABLES[1])).dropped == ()
    assert worthwhile(model, q.assign(model), ORT, "x86_64", Fixed({})).pays is False


def test_cost_of_a_split_is_that_of_its_layers_and_borders(build):
    model = image_model(build)
    split = Split(model, q.assign(model), ORT, Fixed(TABLES[0]))
    assert split.cost(split.best().dropped) == 5 + 4 + 1 + 8 + 10 + 1  # floats, a border, integers, a border
    assert split.cost(()) == 1 + 20 + 9 + 8 + 10 + 1
    assert split.cost(("first", "depthwise", "wide", "dense")) == 5 + 4 + 30 + 50


def test_a_mixture_must_save_more_than_the_margin(build):
    model = image_model(build)
    exact = Split(model, q.assign(model), ORT, Fixed(TABLES[0]))
    over = exact.cost(()) / exact.cost(("first", "depthwise")) - 1
    for margin, dropped in ((over - 0.01, ("first", "depthwise")), (over + 0.01, ())):
        split = Split(model, q.assign(model), ORT, Fixed(TABLES[0]), margin)
        assert split.best().dropped == dropped and split.best().pays
        assert split.cost(()) == exact.cost(())
        assert split.cost(("first",)) == pytest.approx((1 + margin) * exact.cost(("first",)))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50)), min_size=4, max_size=4), st.floats(0, 9))
def test_no_split_costs_less_than_the_best(build, costs, border):
    model = image_model(build)
    names = ("first", "depthwise", "wide", "dense")
    split = Split(model, q.assign(model), ORT, Fixed(dict(zip(names, costs, strict=True)), border))
    best = split.best()
    every = [split.cost(some) for n in range(5) for some in itertools.combinations(names, n)]
    least = min(every)
    if best.pays:
        assert split.cost(best.dropped) == pytest.approx(least)
    else:
        assert split.cost(names) == pytest.approx(least)


def test_an_engine_gets_a_model_of_its_own_where_it_may_win_and_gains(build):
    near = dict(
        TABLES[1], first=(40.0, 20.0), wide=(30.0, 1.0), dense=(50.0, 3.0)
    )  # all integer, and as cheap in all as the other's best
    found = share(ways(build, (TABLES[0], near)))
    assert found["board", "engine 0"].dropped == ("first", "depthwise")
    assert found["board", "engine 1"].dropped == ()


def test_an_engine_that_can_not_win_takes_the_first_ones_model(build):
    slow = {name: (10 * a, 10 * b) for name, (a, b) in TABLES[1].items()}
    found = share(ways(build, (TABLES[0], slow)))
    assert {worth.dropped for worth in found.values()} == {("first", "depthwise")}


def test_models_that_are_as_good_are_one():
    one, other, third = (("a",), True), ((), True), (("b",), True)
    table = {
        ("x", "e"): {one: 100.0, other: 102.0, third: 150.0},
        ("y", "e"): {one: 200.0, other: 100.0, third: 101.0},
        ("z", "e"): {one: 100.0, other: 101.0, third: 100.0},
    }
    wanted = {("x", "e"): one, ("y", "e"): third, ("z", "e"): third}
    assert set(fewest({k: {s: v[s] for s in (one, third)} for k, v in table.items()}, wanted, table).values()) == {
        one,
        third,
    }
    wanted["y", "e"] = other
    assert set(fewest(table, wanted, table).values()) == {other}


def test_a_split_decided_before_is_the_one_that_is_made(build):
    model = image_model(build)
    split = Split(model, q.assign(model), ORT, Fixed(TABLES[0])).best()
    feeds = [{"x": np.random.default_rng(n).normal(size=(1, 3, 64, 64)).astype(np.float32)} for n in range(4)]
    made = q.quantize_with_data(model, Dataset.of(feeds, model.graph.inputs), effort="plain", worth=split)
    assert {name for name, scheme in made.assignment.items() if scheme is None} == {"first", "depthwise"}
    kinds = {node.name: node.inputs[0].producer() for node in made.model.graph if node.op_type == "Conv"}
    assert kinds["dense"].op_type == "DequantizeLinear"
    assert kinds["first"] is None
