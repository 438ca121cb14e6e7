"""Every state in which a crash can leave a disk, from the log of what it was told.

What was written before a flush ended is on the disk. Of what came after, a disk may have kept any part: it has a cache
and no duty to keep the order. So for each span between two flushes there are the states of its prefixes, in order, and
those of subsets of its writes, in pieces of a block: all subsets of a few pieces, else each piece missing alone, each
there alone (up to `ALONE` pieces), and some drawn by chance. States of equal bytes and equal promises are one.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgec_toolchains.crashlab.log import FLUSH, MARK, WRITE, Entry

BLOCK = 4096  # bytes: what a disk writes whole or not at all
ALL_SUBSETS = 4  # pieces
ALONE = 12  # pieces

Piece = tuple[int, bytes]  # offset, data


@dataclass(frozen=True)
class Crash:
    """A crash state. `image` is only valid until the next one is asked for; `marks` are those made before."""

    label: str
    image: memoryview
    marks: tuple[str, ...]


class _Image:
    """The disk's bytes, and a sum over its blocks that two images share only if they are equal."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.sum = 0  # relative to where it started

    def _digest(self, block: int) -> int:
        content = self.data[block * BLOCK : (block + 1) * BLOCK]
        return int.from_bytes(hashlib.blake2b(content, digest_size=16, key=b"%d" % block).digest(), "big")

    def put(self, piece: Piece) -> Piece:
        """Write a piece, which lies within a block; returns what was there."""
        offset, data = piece
        old = bytes(self.data[offset : offset + len(data)])
        if old != data:
            block = offset // BLOCK
            self.sum ^= self._digest(block)
            self.data[offset : offset + len(data)] = data
            self.sum ^= self._digest(block)
        return offset, old


def crashes(
    original: bytes, entries: Sequence[Entry], *, subsets: int = 2, seed: int = 0, alone: int = ALONE
) -> Iterator[Crash]:
    """The distinct crash states, in the order of the log.

    Args:
        original: the disk's bytes before.
        entries: what it was told.
        subsets: how many subsets to draw by chance for each write after the first between two flushes.
        seed: of the draws.
        alone: up to how many pieces between two flushes each one is left out alone, and is there alone.
    """
    chance, image, seen = random.Random(seed), _Image(original), set()
    marks: tuple[str, ...] = ()
    seen.add((image.sum, marks))
    yield Crash("before", memoryview(image.data), marks)
    for number, span in enumerate(spans(entries)):
        before, drawn = [], 0  # what was there before each piece of this span, and the writes in it
        pieces: list[Piece] = []
        for index, entry in enumerate(span):
            if entry.kind == MARK:
                marks = (*marks, entry.text)
            new = list(_pieces(entry))
            before += [image.put(piece) for piece in new]
            pieces += new
            drawn += bool(new)
            if (image.sum, marks) not in seen:
                seen.add((image.sum, marks))
                yield Crash(f"{number}.{index}", memoryview(image.data), marks)
        for old in reversed(before):
            image.put(old)
        for name, kept in _subsets(len(pieces), subsets * max(0, drawn - 1), alone, chance):
            undo = [image.put(pieces[at]) for at in kept]
            if (image.sum, marks) not in seen:
                seen.add((image.sum, marks))
                yield Crash(f"{number}.{name}", memoryview(image.data), marks)
            for old in reversed(undo):
                image.put(old)
        for piece in pieces:
            image.put(piece)


def spans(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """The entries between flushes; what comes before a flush is not sure to be kept until the flush has ended."""
    span: list[Entry] = []
    for entry in entries:
        if entry.kind == FLUSH:
            yield span
            span = []
        else:
            span.append(entry)
    yield span


def _pieces(entry: Entry) -> Iterator[Piece]:
    """A write or a zeroed range, cut at the blocks' borders."""
    if entry.kind in (FLUSH, MARK):
        return
    data = entry.data if entry.kind == WRITE else bytes(entry.size)
    start = 0
    while start < len(data):
        end = min(len(data), start + BLOCK - (entry.offset + start) % BLOCK)
        yield entry.offset + start, data[start:end]
        start = end


def _subsets(count: int, drawn: int, alone: int, chance: random.Random) -> Iterator[tuple[str, list[int]]]:
    """Subsets of `count` pieces, each as a name and the indices that are kept, in order."""
    if count <= ALL_SUBSETS:
        for size in range(count):
            for kept in itertools.combinations(range(count), size):
                yield "only " + "+".join(map(str, kept)), list(kept)
        return
    if count <= alone:
        for at in range(count):
            yield f"without {at}", [other for other in range(count) if other != at]
            yield f"only {at}", [at]
    for turn in range(drawn):
        yield f"drawn {turn}", [at for at in range(count) if chance.random() < 0.5]
