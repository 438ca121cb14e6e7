"""Which bytes of the old file each byte of the new one is made from.

Tensors of one name and length belong together, whatever their content. What lies between them is aligned by equal
content: runs of equal bytes are found through an index of the old file's blocks and grown to both sides; two runs that
are equally far apart in both files belong together, and so does what lies between them, however much of it changed: a
scale, or all weights of a layer. Then, piece by piece: equal bytes are copied; others become an addition if its terms
would be cheaper to send than the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgec.flash.delta.spans import Span
from edgec.flash.delta.terms import subtract
from edgec_runtime.delta import ESCAPE

Bytes = NDArray[np.uint8]

NEW = -1
_BLOCK = 16  # bytes of the old file that the index knows
_QUIET = 24  # equal bytes in a row from which on a copy is cheaper than zeros
_SELDOM = 50  # one large term in so many: then two stand in a byte


@dataclass(frozen=True)
class Piece:
    """`length` bytes at `new` of the new file, from `old` of the old one, or NEW; added in `width` bytes, 0: copied."""

    new: int
    length: int
    old: int = NEW
    width: int = 0
    halves: bool = False
    """Whether an addition's terms are sent two in a byte: worth it where nearly all are small."""


def align(old: bytes, new: bytes, before: Sequence[Span], after: Sequence[Span]) -> list[Piece]:
    """Pieces that make up the new file, in order."""
    by_name = {span.name: span for span in before}
    named = [(by_name[s.name], s) for s in after if s.name in by_name and by_name[s.name].length == s.length]
    index = _Index(old, [(a.at, a.at + a.length) for a, _ in named])
    made: list[Piece] = []
    at = 0
    for a, b in named:
        made += _between(old, new, at, b.at, index)
        made += _split(old, new, Piece(b.at, b.length, a.at), b.width)
        at = b.at + b.length
    made += _between(old, new, at, len(new), index)
    return made


class _Index:
    """The old file's blocks outside of the spans that are aligned already: content -> place."""

    def __init__(self, old: bytes, taken: Sequence[tuple[int, int]]) -> None:
        self.places: dict[bytes, int] = {}
        begin = 0
        for a, b in [*sorted(taken), (len(old), len(old))]:
            # Every place of a short part; of a long one, every block: a run of twice the length contains one whole.
            step = 1 if a - begin < 1 << 20 else _BLOCK
            for at in range(begin, a - _BLOCK + 1, step):
                self.places.setdefault(old[at : at + _BLOCK], at)
            begin = max(begin, b)


def _between(old: bytes, new: bytes, begin: int, end: int, index: _Index) -> Iterator[Piece]:
    """Pieces of new[begin:end], aligned by content."""
    runs = list(_runs(old, new, begin, end, index))
    at = begin
    for run in runs:
        if run.new > at:
            yield Piece(at, run.new - at)
        yield from _split(old, new, run, 1)
        at = run.new + run.length
    if at < end:
        yield Piece(at, end - at)


def _runs(old: bytes, new: bytes, begin: int, end: int, index: _Index) -> Iterator[Piece]:
    """Stretches that belong together: equal bytes, and what lies between two equally far apart in both files."""
    at, last = begin, None
    while at <= end - _BLOCK:
        block = new[at : at + _BLOCK]
        place = None if last is None else last.old + at - last.new  # as far apart as before, if it goes on there
        if place is None or old[place : place + _BLOCK] != block:
            place = index.places.get(block)
        if place is None:
            at += 1
            continue
        low = begin if last is None else last.new + last.length
        back = _common(old[max(0, place - at + low) : place][::-1], new[low:at][::-1])
        run = Piece(at - back, back + _equal(old, place, new, at, end), place - back)
        if last is not None and run.old - run.new == last.old - last.new:
            run = Piece(last.new, run.new + run.length - last.new, last.old)
        elif last is not None:
            yield last
        last = run
        at = run.new + run.length
    if last is not None:  # what is left at the end belongs to the last one, as far as the old file goes
        yield Piece(last.new, min(end - last.new, len(old) - last.old), last.old)


def _equal(old: bytes, place: int, new: bytes, at: int, end: int) -> int:
    """How many bytes are equal from here on; compared in growing parts, so that a short run costs little."""
    found, part = 0, 64
    while True:
        a, b = old[place + found : place + found + part], new[at + found : min(end, at + found + part)]
        same = _common(a, b)
        found += same
        if same < part:
            return found
        part = min(2 * part, 1 << 20)


def _common(a: bytes, b: bytes) -> int:
    """How many first bytes are equal."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return int(np.argmax(np.frombuffer(a, np.uint8, n) != np.frombuffer(b, np.uint8, n)))


def _split(old: bytes, new: bytes, piece: Piece, width: int) -> Iterator[Piece]:
    """Copies where nothing changed for long, additions or new bytes elsewhere; borders lie between elements."""
    a = np.frombuffer(old, np.uint8, piece.length, piece.old)
    b = np.frombuffer(new, np.uint8, piece.length, piece.new)
    places = np.flatnonzero(a != b) // width
    changed = places[np.diff(places, prepend=-1) > 0]  # each once; sorted they are, so no `unique`, which hashes
    if not len(changed):
        yield piece
        return
    apart = np.flatnonzero(np.diff(changed) * width > _QUIET)
    begins = changed[np.concatenate([[0], apart + 1])] * width
    ends = (changed[np.concatenate([apart, [len(changed) - 1]])] + 1) * width
    at = 0
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        if begin > at:
            yield Piece(piece.new + at, begin - at, piece.old + at)
        yield _changed(a[begin:end], b[begin:end], piece, begin, width)
        at = end
    if at < piece.length:
        yield Piece(piece.new + at, piece.length - at, piece.old + at)


def _changed(a: Bytes, b: Bytes, piece: Piece, begin: int, width: int) -> Piece:
    """An addition, or new bytes where these are cheaper."""
    terms = np.frombuffer(subtract(b.tobytes(), a.tobytes(), width), np.uint8)
    if _cost(terms) >= _cost(b):
        return Piece(piece.new + begin, len(b))
    few = width == 1 and np.count_nonzero(terms >= ESCAPE) * _SELDOM < len(terms)
    return Piece(piece.new + begin, len(b), piece.old + begin, width, bool(few and len(b) > _BLOCK))


def _cost(values: Bytes) -> float:
    """Bits of the bytes by their frequencies (their entropy of order zero), the frequencies' own cost included."""
    counts = np.bincount(values, minlength=256)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / len(values))).sum()) + 6.0 * len(counts)
