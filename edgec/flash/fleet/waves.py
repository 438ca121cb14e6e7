"""Which boards come first: the same for the same bundle and fleet, and of every kind some.

The order is by SHA-256 of the bundle's identity and the board's name: another bundle meets other boards first, so that
no board is everybody's canary.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from edgec.flash.fleet.boards import Board
from edgec.flash.fleet.policy import Policy


def ordered(boards: Sequence[Board], identity: str) -> list[Board]:
    """The boards in the order in which they are flashed, of each kind."""
    prefix = hashlib.sha256(identity.encode() + b"\0")

    def place(board: Board) -> bytes:
        hasher = prefix.copy()
        hasher.update(board.name.encode())
        return hasher.digest()

    return sorted(boards, key=place)


def quotas(kinds: Mapping[str, int], policy: Policy) -> list[dict[str, int]]:
    """For each wave, how many boards of each kind were flashed when it ends (so the last has them all).

    Each wave takes of every kind its share, at least one board; a wave that would add nothing is left out.
    """
    fleet = sum(kinds.values())
    sizes = [policy.canary.boards(fleet)]
    if (second := policy.second.boards(fleet)) > sizes[0]:
        sizes.append(second)
    sizes.append(fleet)
    waves: list[dict[str, int]] = []
    for size in sizes:
        before = waves[-1] if waves else dict.fromkeys(kinds, 0)
        wave = _shared(kinds, size)
        wave = {kind: max(count, before[kind]) for kind, count in wave.items()}
        if wave != before:
            waves.append(wave)
    return waves


def _shared(kinds: Mapping[str, int], size: int) -> dict[str, int]:
    """`size` boards over the kinds by their numbers (largest remainders), at least one of each."""
    fleet = sum(kinds.values())
    shares = {kind: max(1, count * size // fleet) for kind, count in kinds.items()}
    left = size - sum(shares.values())
    for kind in sorted(kinds, key=lambda kind: (-(kinds[kind] * size % fleet), kind)):
        if left > 0 and shares[kind] < kinds[kind]:
            shares[kind] += 1
            left -= 1
    return shares


def count(boards: Sequence[Board]) -> dict[str, int]:
    """How many boards of each kind, kinds in order."""
    return dict(sorted(Counter(board.kind for board in boards).items()))
