"""A format for each weight, so that the file is as small as was asked and the outputs as good as they can be then.

Noise of different weights adds up (each is small, and they are independent of each other), so the choice is a knapsack:
start with the smallest format of each, then take the step up that saves most noise for its bytes, as long as it fits.
Steps that a larger one beats are left out first (the lower convex hull of noise over bytes), which makes the greedy
choice the best there is up to one step (Dantzig 1957; as in Dong et al. 2020, "HAWQ-V2", arXiv:1911.03852).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgec.quantize.weights.groups import Format


@dataclass(frozen=True)
class Option:
    """A format that a weight may have.

    Attributes:
        format: the integers.
        nbytes: in the file.
        noise: that it makes of the outputs, relative to their energy.
    """

    format: Format
    nbytes: int
    noise: float


def choose(options: Mapping[str, Sequence[Option]], budget: int) -> dict[str, Format] | None:
    """A format for each weight whose bytes together are at most `budget`; None where not even the smallest fit.

    Args:
        options: by a weight's name, at least one each.
        budget: bytes.
    """
    hulls = {name: hull(given) for name, given in options.items()}
    at = dict.fromkeys(hulls, 0)
    left = budget - sum(h[0].nbytes for h in hulls.values())
    if left < 0:
        return None
    steps = [(_gain(h[k], h[k + 1]), name, k) for name, h in hulls.items() for k in range(len(h) - 1)]
    for _, name, k in sorted(steps, key=lambda s: (-s[0], s[1], s[2])):
        h = hulls[name]
        cost = h[k + 1].nbytes - h[at[name]].nbytes
        if cost <= left:
            left -= cost
            at[name] = k + 1
    return {name: hulls[name][k].format for name, k in at.items()}


def hull(options: Sequence[Option]) -> list[Option]:
    """The options from the smallest on, each with less noise than the one before, gains for bytes falling."""
    ordered = sorted(options, key=lambda o: (o.nbytes, o.noise))
    kept: list[Option] = []
    for option in ordered:
        if kept and option.noise >= kept[-1].noise:
            continue
        while len(kept) > 1 and _gain(kept[-2], kept[-1]) <= _gain(kept[-2], option):
            kept.pop()
        kept.append(option)
    return kept


def _gain(old: Option, new: Option) -> float:
    return (old.noise - new.noise) / max(new.nbytes - old.nbytes, 1)
