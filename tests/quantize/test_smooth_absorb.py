"""Where the factor of a channel goes: each producer's constants, or nowhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quantize.corrections.absorb import absorb, apply
from edgec.quantize.session import Session
from edgec.quantize.weights.edit import Editor

RNG = np.random.default_rng(3)
CHANNELS = 6


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# name: (nodes, constants); each makes y (2, 4, 6) of x (2, 4, 6).
ROUTES = {
    "LayerNormalization": ([("LayerNormalization", ["x", "g", "b"], ["y"])], {"g": normal(6), "b": normal(6)}),
    "LayerNormalization without bias": ([("LayerNormalization", ["x", "g"], ["y"])], {"g": normal(6)}),
    "MatMul": ([("MatMul", ["x", "w"], ["y"])], {"w": normal(6, 6)}),
    "MatMul and bias": (
        [("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "b"], ["y"])],
        {"w": normal(6, 6), "b": normal(6)},
    ),
    "scalar offset": ([("MatMul", ["x", "w"], ["h"]), ("Sub", ["c", "h"], ["y"])], {"w": normal(6, 6), "c": normal()}),
    "Mul": ([("Mul", ["g", "x"], ["y"])], {"g": normal(6)}),
    "Div": ([("Div", ["x", "g"], ["y"])], {"g": normal(1, 6)}),
    "Relu": ([("MatMul", ["x", "w"], ["h"]), ("Relu", ["h"], ["y"])], {"w": normal(6, 6)}),
    "gated": (
        [("MatMul", ["x", "w"], ["u"]), ("Sigmoid", ["x"], ["s"]), ("Mul", ["s", "u"], ["y"])],
        {"w": normal(6, 6)},
    ),
    "sum of two": (
        [("MatMul", ["x", "w"], ["u"]), ("MatMul", ["x", "v"], ["h"]), ("Add", ["u", "h"], ["y"])],
        {"w": normal(6, 6), "v": normal(6, 6)},
    ),
    "attention": (
        [
            ("MatMul", ["x", "w"], ["v"]),
            ("Add", ["v", "b"], ["vb"]),
            ("Reshape", ["vb", "split"], ["vh"]),
            ("Transpose", ["vh"], ["vt"], {"perm": [0, 2, 1, 3]}),
            ("MatMul", ["p", "vt"], ["a"]),
            ("Transpose", ["a"], ["at"], {"perm": [0, 2, 1, 3]}),
            ("Reshape", ["at", "join"], ["y"]),
        ],
        {
            "w": normal(6, 6), "b": normal(6), "p": normal(2, 3, 4, 4),
            "split": np.array([2, 4, 3, 2]), "join": np.array([2, 4, 6]),
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=8)
@given(st.lists(st.sampled_from([0.25, 0.5, 1.0, 3.0, 10.0]), min_size=CHANNELS, max_size=CHANNELS))
def test_a_value_becomes_its_product_with_the_factors(build, route: str, factors: list[float]) -> None:
    nodes, constants = ROUTES[route]
    model = build([*nodes, ("Identity", ["y"], ["z"])], {"x": [2, 4, 6]}, ["z"], constants)
    feed = {"x": np.random.default_rng(1).standard_normal((2, 4, 6)).astype(np.float32)}
    before = Session(model).run(feed)[0]
    value = next(n for n in model.graph if n.op_type == "Identity").inputs[0]
    changes = absorb(value, np.array(factors), 1)
    assert changes is not None
    apply(Editor(model.graph), changes)
    np.testing.assert_allclose(Session(model).run(feed)[0], before * np.float32(factors), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "nodes",
    [
        [("Softmax", ["x"], ["y"])],
        [("MatMul", ["x", "w"], ["h"]), ("Gelu", ["h"], ["y"])],
        [("MatMul", ["x", "w"], ["y"]), ("Sigmoid", ["y"], ["other"])],
        [("LayerNormalization", ["x", "g4", "b4"], ["y"], {"axis": 1})],
        [("Add", ["x", "g"], ["y"])],
        [("MatMul", ["w2", "x6"], ["y"])],
    ],
    ids=["softmax", "gelu", "read elsewhere", "other axis", "input", "constant first"],
)
def test_what_can_not_take_factors_is_left(build, nodes: list[tuple]) -> None:
    constants = {"w": normal(6, 6), "g": normal(6), "g4": normal(4, 6), "b4": normal(4, 6), "w2": normal(2, 4, 6)}
    used = {name for n in nodes for name in n[1]}
    inputs = {"x": [2, 4, 6]} | ({"x6": [2, 6, 6]} if "x6" in used else {})
    outputs = ["z"] + [o for n in nodes for o in n[2] if o == "other"]
    model = build(
        [*nodes, ("Identity", ["y"], ["z"])], inputs, outputs, {k: v for k, v in constants.items() if k in used}
    )
    value = next(n for n in model.graph if n.op_type == "Identity").inputs[0]
    assert absorb(value, np.full(CHANNELS, 2.0), 1) is None


def test_a_weight_that_others_read_is_not_doubled(build) -> None:
    nodes = [("MatMul", ["x", "w"], ["y"]), ("Identity", ["y"], ["z"]), ("MatMul", ["x", "w"], ["other"])]
    model = build(nodes, {"x": [2, 6]}, ["z", "other"], {"w": normal(6, 6)})
    value = next(n for n in model.graph if n.op_type == "Identity").inputs[0]
    assert absorb(value, np.full(CHANNELS, 2.0), 1) is None


def test_changed_values_are_renamed_and_nodes_keep_their_names(build) -> None:
    model = build([("MatMul", ["x", "w"], ["y"]), ("Relu", ["y"], ["z"])], {"x": [2, 6]}, ["z"], {"w": normal(6, 6)})
    node = next(iter(model.graph))
    changes = absorb(node.outputs[0], np.full(CHANNELS, 2.0), 1)
    assert changes is not None
    apply(Editor(model.graph), changes)
    assert node.name == "y" and node.outputs[0].name != "y"
