"""Which splits into float and integers are made: one for each engine where that pays, as few models as that takes.

Each engine has a split of its own that is cheapest by its kernels' costs. A model more means calibration and
corrections once more, so one is made for an engine only if it may win on its board and loses by taking another's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from edgec.quantize.placement.worth import Split, Worth

NEAR = 1.10
"""An engine may win on a board if its formulas say at most this much more than the first one's: they are that good."""
GAIN = 1.03
"""A model of its own has to save as much where it is for the engine that is expected to win on a board …"""
OTHERS = 1.05
"""… and as much where it is for another, which may win all the same: formulas count instructions, boards take time."""


@dataclass(frozen=True)
class Way:
    """How a board may run the model: an engine, with what splits cost there.

    Attributes:
        board: its name.
        engine: the engine's.
        split: what each split costs.
        best: the cheapest.
    """

    board: str
    engine: str
    split: Split
    best: Worth

    @property
    def key(self) -> tuple[str, str]:
        """Board and engine."""
        return self.board, self.engine

    def cost(self, worth: Worth) -> float:
        """What a split costs this way."""
        return self.split.cost(worth.dropped)


def share(ways: Sequence[Way]) -> dict[tuple[str, str], Worth]:
    """(board, engine) -> the split of its model; few distinct ones.

    1. On each board the engine that is cheapest with its own split decides; others take that split, unless they may win
       (`NEAR`) and lose by it (`OTHERS`).
    2. Of the splits so found, the fewest are kept with which no board's first engine loses more than `GAIN` and no
       other more than `OTHERS`; among equally few those that are best for the first engines.
    """
    costs = {way.key: way.cost(way.best) for way in ways}
    wanted: dict[tuple[str, str], Worth] = {}
    firsts: set[tuple[str, str]] = set()
    for board in dict.fromkeys(way.board for way in ways):
        several = [way for way in ways if way.board == board]
        first = min(several, key=lambda way: costs[way.key])
        firsts.add(first.key)
        for way in several:
            own = costs[way.key] <= NEAR * costs[first.key] and way.cost(first.best) > OTHERS * costs[way.key]
            wanted[way.key] = way.best if own else first.best
    found = {name(worth): worth for worth in wanted.values()}
    if len(found) < 2:
        return wanted
    table = {way.key: {n: way.cost(worth) for n, worth in found.items()} for way in ways}
    chosen = fewest(table, {key: name(worth) for key, worth in wanted.items()}, firsts)
    return {key: found[n] for key, n in chosen.items()}


def name(worth: Worth) -> tuple[tuple[str, ...], bool]:
    """What tells two splits apart."""
    return worth.dropped, worth.pays


def fewest(
    table: Mapping[tuple[str, str], Mapping[tuple[tuple[str, ...], bool], float]],
    wanted: Mapping[tuple[str, str], tuple[tuple[str, ...], bool]],
    firsts: Collection[tuple[str, str]],
) -> dict[tuple[str, str], tuple[tuple[str, ...], bool]]:
    """For each way a split that costs little more than the wanted one, with as few splits in all as possible.

    `firsts` lose at most `GAIN`, others `OTHERS`. Among equally few, those with which the firsts lose least together,
    then all.
    """
    splits = list(dict.fromkeys(wanted.values()))

    def relative(key: tuple[str, str], split: tuple[tuple[str, ...], bool]) -> float:
        least = table[key][wanted[key]]
        return table[key][split] / least if least > 0 else 1.0

    for count in range(1, len(splits) + 1):
        fits = []
        for some in combinations(splits, count):
            taken = {key: min(some, key=lambda s: relative(key, s)) for key in wanted}
            lost = {key: relative(key, split) for key, split in taken.items()}
            if all(amount <= (GAIN if key in firsts else OTHERS) for key, amount in lost.items()):
                fits.append((sum(lost[key] for key in wanted if key in firsts), sum(lost.values()), taken))
        if fits:
            return min(fits, key=lambda fit: fit[:2])[2]
    return dict(wanted)
