"""Minimise Σ over values of the conversions their readers need, by alpha expansion: one minimum cut a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgec_targets.emitters.litert.mincut import INFINITE, Cut
from edgec_targets.emitters.litert.registry import Perm

_ROUNDS = 4


@dataclass(frozen=True)
class Site:
    """One choice to be made: in which region, what it would like, what it may be."""

    root: ir.Value
    wishes: list[Perm]
    allowed: Callable[[Perm], bool]


@dataclass(frozen=True)
class Term:
    """A value: its writer and readers (numbers of sites, or labels that are fixed), and the cost of a conversion."""

    root: ir.Value
    writer: int | Perm
    readers: Sequence[int | Perm]
    cost: Callable[[Perm, Perm], int]

    def energy(self, labels: Sequence[Perm]) -> int:
        """One conversion for each layout that is read and was not written."""
        has = resolve(self.writer, labels)
        return sum(self.cost(has, label) for label in {resolve(r, labels) for r in self.readers})


def resolve(one: int | Perm, labels: Sequence[Perm]) -> Perm:
    """The label of a site, or the fixed one."""
    return labels[one] if isinstance(one, int) else one


def minimise(sites: Sequence[Site], terms: Sequence[Term]) -> list[Perm]:
    """A label for each site. Regions are independent; deterministic."""
    labels: list[Perm] = [()] * len(sites)
    regions: dict[ir.Value, tuple[list[int], list[Term]]] = {}
    for n, site in enumerate(sites):
        regions.setdefault(site.root, ([], []))[0].append(n)
    for term in terms:
        if term.root in regions:
            regions[term.root][1].append(term)
    for members, own in regions.values():
        _region(sites, members, own, labels)
    return labels


def _region(sites: Sequence[Site], members: list[int], terms: list[Term], labels: list[Perm]) -> None:
    candidates: dict[Perm, int] = {}
    for term in terms:
        for one in (term.writer, *term.readers):
            if not isinstance(one, int):
                candidates[one] = candidates.get(one, 0) + 1
    for n in members:
        for wish in sites[n].wishes:
            candidates.setdefault(wish, 0)
    ranked = sorted(candidates, key=lambda c: (-candidates[c], c))
    for n in members:
        labels[n] = next(c for c in ranked if sites[n].allowed(c))
    for _ in range(_ROUNDS):
        changed = False
        for alpha in ranked:
            changed |= _expand(sites, members, terms, labels, alpha)
        if not changed:
            return


def _expand(sites: Sequence[Site], members: list[int], terms: list[Term], labels: list[Perm], alpha: Perm) -> bool:
    """Move the sites to `alpha` that lower the sum by it. True where that happened.

    The cut's sink side takes alpha. For a value with writer w and readers R, all of today's labels:
    cost(w, alpha) if w stays and some r moves; cost(alpha, l) if w moves and some r of label l stays; and what
    readers of other labels than w's cost anyway unless all of them move.
    """
    cut = Cut()
    movable = [n for n in members if labels[n] != alpha and sites[n].allowed(alpha)]
    if not movable:
        return False
    nodes = {n: cut.node() for n in movable}

    def place(one: int | Perm) -> int:
        if isinstance(one, int) and one in nodes:
            return nodes[one]
        return Cut.sink if resolve(one, labels) == alpha else Cut.source

    for term in terms:
        writer, has = place(term.writer), resolve(term.writer, labels)
        groups: dict[Perm, set[int]] = {}
        for reader in term.readers:
            groups.setdefault(resolve(reader, labels), set()).add(place(reader))
        if writer != Cut.sink:
            moving = cut.node()  # on the sink's side if any reader is
            cut.edge(writer, moving, term.cost(has, alpha))
            for reader in set().union(*groups.values()) if groups else ():
                cut.edge(moving, reader, INFINITE)
        for label, readers in groups.items():
            if label == alpha:
                continue
            staying = cut.node()  # on the source's side if any reader is
            for reader in readers:
                cut.edge(reader, staying, INFINITE)
            stay, move = term.cost(has, label), term.cost(alpha, label)
            base = min(stay, move)
            cut.edge(staying, Cut.sink, base if writer != Cut.sink else move)
            if move > base and writer != Cut.sink:
                cut.edge(staying, writer, move - base)
    taken = cut.sink_side()
    proposal = list(labels)
    for n in movable:
        if nodes[n] in taken:
            proposal[n] = alpha
    if sum(t.energy(proposal) for t in terms) >= sum(t.energy(labels) for t in terms):
        return False
    labels[:] = proposal
    return True
