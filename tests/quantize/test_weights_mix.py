"""Formats within a size: never over it, never worse than one format for all that fits, near the best there is."""

from __future__ import annotations

from itertools import pairwise, product

from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quantize.weights.groups import Format
from edgec.quantize.weights.mix import Option, choose, hull

FORMATS = (Format(4, 64), Format(4, 16), Format(8), Format(8, 32))
# Noise in steps of a millionth, about: sums, differences and ratios that tell more from less.
NOISE = st.integers(0, 2**20).map(lambda steps: steps / 2**20)
GIVEN = st.lists(st.lists(st.tuples(st.integers(1, 500), NOISE), min_size=4, max_size=4), min_size=1, max_size=4)


def made(given_options: list) -> dict[str, list[Option]]:
    return {
        f"w{i}": [Option(f, size, noise) for f, (size, noise) in zip(FORMATS, options, strict=True)]
        for i, options in enumerate(given_options)
    }


@settings(max_examples=200)
@given(options=GIVEN, budget=st.integers(0, 2000))
def test_within_the_size_and_within_one_step_of_the_best(options, budget):
    options = made(options)
    chosen = choose(options, budget)
    every = [(sum(o.nbytes for o in picked), sum(o.noise for o in picked)) for picked in product(*options.values())]
    fitting = [noise for size, noise in every if size <= budget]
    assert (chosen is None) == (not fitting)
    if chosen is None:
        return
    picked = [next(o for o in options[name] if o.format == format) for name, format in chosen.items()]
    assert sum(o.nbytes for o in picked) <= budget
    # Greedy over the hull loses at most what one step saves.
    steps = [a.noise - b.noise for given_options in options.values() for a, b in pairwise(hull(given_options))]
    step = max(steps, default=0.0)
    assert sum(o.noise for o in picked) <= min(fitting) + step + 1e-9


@settings(max_examples=100)
@given(options=GIVEN)
def test_hull_gains_less_and_less_for_its_bytes(options):
    for given_options in made(options).values():
        kept = hull(given_options)
        assert kept[0].nbytes == min(o.nbytes for o in given_options)
        assert kept[-1].noise == min(o.noise for o in given_options)
        gains = [(a.noise - b.noise) / max(b.nbytes - a.nbytes, 1) for a, b in pairwise(kept)]
        assert all(g > 0 for g in gains) and all(x >= y for x, y in pairwise(gains))
