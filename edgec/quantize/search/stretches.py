"""The first or the last part of a model in float: candidates that no sum of single noises proposes.

The hull of minimum cuts rests on noise that adds up. Where it doesn't (noise of early layers that later ones amplify
together, values outside their range), a whole stretch in float is worth more than its parts: PP-OCR's direction
classifier loses as much with any one of its layers in float, and a third with the first half of them.
"""

from __future__ import annotations

from edgec.quantize import layers
from edgec.quantize.search.cut import Balance, Corner
from edgec.quantize.search.setup import Setup

PARTS = 8  # lengths that are considered: so many parts of the layers with weights


def stretches(setup: Setup, balance: Balance, always: frozenset[str]) -> list[Corner]:
    """Assignments with everything up to a layer, or from a layer on, in float; those of the least noise first.

    Args:
        setup: the search's start.
        balance: what time and noise are expected by.
        always: layers that are float anyway, because integers don't pay for them.
    """
    order = [setup.names[unit.node] for unit in setup.plan.units]
    weighted = [i for i, unit in enumerate(setup.plan.units) if layers.weight_of(unit.node) is not None]
    found: dict[frozenset[str], Corner] = {}
    for part in range(1, PARTS):
        n = round(part * len(weighted) / PARTS)
        if not 0 < n < len(weighted):
            continue
        for names in (order[: weighted[n - 1] + 1], order[weighted[-n] :]):
            floats = always | frozenset(names)
            if balance.integers(floats):
                found[floats] = balance.corner(floats)
    return sorted(found.values(), key=lambda c: (c.noise, c.time, sorted(c.floats)))
