"""Which changes of a manifest a caller of the model would notice."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgec_runtime.errors import BadInputError
from edgec_runtime.signature import Signature
from edgec_runtime.slots.compatible import change


def manifest(*shapes, outputs=((1,),), steps=()):
    def tensors(letter, all_shapes):
        return [
            {"name": f"{letter}{n}", "dtype": "float32", "shape": list(shape), "layout": None}
            for n, shape in enumerate(all_shapes)
        ]

    return {
        "inputs": tensors("x", shapes),
        "outputs": tensors("y", outputs),
        "preprocessing": list(steps),
        "postprocessing": [],
    }


@pytest.mark.parametrize(
    "old, new, noticed",
    [
        (manifest((2, 3)), manifest((2, 3)), False),
        (manifest((2, 3)), manifest(("n", 3)), False),
        (manifest(("n", 3)), manifest(("batch", 3)), False),
        (manifest(("n", 3)), manifest((2, 3)), True),
        (manifest((2, 3)), manifest((2, 3, 1)), True),
        (manifest((2, 3)), manifest(("n", "n")), True),
        (manifest((2, 2)), manifest(("n", "n")), False),
        (manifest(("a",), ("b",)), manifest(("n",), ("n",)), True),
        (manifest(("a",), ("a",)), manifest(("n",), ("n",)), False),
        (manifest(("a",), ("a",)), manifest(("n",), ("m",)), False),
        (manifest(("?",), ("?",)), manifest(("n",), ("n",)), True),
        (manifest(("n",), ("n",)), manifest(("?",), ("?",)), False),
        (manifest((2,), (2,)), manifest((2,)), True),
        (manifest((2,), outputs=((1,), (2,))), manifest((2,), outputs=((1,), (3,))), True),
        (manifest((2,), outputs=((1,), (2,))), manifest((2,), outputs=((1,), ("n",))), False),
        (manifest((2,)), manifest((2,), steps=[{"op": "resize"}]), True),
    ],
)
def test_what_is_noticed(old, new, noticed):
    assert bool(change(old, new)) is noticed


SIZE = st.sampled_from([1, 2, "n", "m", "?"])
SHAPES = st.lists(st.lists(SIZE, max_size=2), min_size=1, max_size=2)


def takes(said, shapes):
    feeds = {f"x{n}": memoryview(bytearray(16)).cast("f")[:1] for n in range(len(shapes))}
    for n, shape in enumerate(shapes):
        count = 1
        for size in shape:
            count *= size
        feeds[f"x{n}"] = memoryview(bytearray(4 * count)).cast("B").cast("f", list(shape))
    try:
        Signature(said["inputs"], numpy=False).check(feeds)
    except BadInputError:
        return False
    return True


@given(old=SHAPES, new=SHAPES)
def test_it_is_noticed_exactly_when_a_feed_is_refused_that_was_taken(old, new):
    """Against the check of feeds itself, on all shapes of sizes 1 to 3."""
    one, other = manifest(*old), manifest(*new)
    if [len(shape) for shape in old] != [len(shape) for shape in new]:
        assert change(one, other)
        return
    sizes = itertools.product(*(range(1, 4) for shape in old for _ in shape))
    refused = False
    for picked in sizes:
        rest = iter(picked)
        shapes = [[next(rest) for _ in shape] for shape in old]
        refused = refused or (takes(one, shapes) and not takes(other, shapes))
    assert bool(change(one, other)) is refused
