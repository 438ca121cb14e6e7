"""Tiles: how many neighbouring outputs a kernel computes at once, in registers.

A tile of `rows` × `columns` outputs times `channels` channels is accumulated in registers over the whole reduction, so
that each weight that is loaded is used rows × columns times, and each input `channels` times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Tile:
    """One choice for one kernel. `steps`: input channels that are loaded as one vector, 1 for one at a time."""

    rows: int
    columns: int
    channels: int
    steps: int = 1

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.channels}/{self.steps}"

    @classmethod
    def parse(cls, text: str) -> Tile:
        """The tile that `str` wrote. Raises ValueError for anything else."""
        sizes, _, steps = text.partition("/")
        rows, columns, channels = (int(size) for size in sizes.split("x"))
        return cls(rows, columns, channels, int(steps))


@dataclass(frozen=True)
class Vectors:
    """A CPU's vector registers, as far as a tile's size depends on them.

    Attributes:
        lanes: floats in one.
        registers: how many there are.
        by_lane: whether a multiply-add takes one lane of a register for all (FMLA by element on Arm); else a scalar is
            broadcast from memory, which costs a load but no register where the instruction takes memory (x86).
    """

    lanes: int
    registers: int
    by_lane: bool

    def width(self, channels: int) -> int:
        """Floats in the vectors of a tile: a power of two that divides its channels, since LLVM splits others badly.

        A few channels that no such width divides are one vector, whose last lanes compute nothing.
        """
        width = self.lanes
        while channels % width:
            width //= 2
        return channels if width < self.lanes // 4 and channels <= self.lanes else width


@dataclass(frozen=True)
class Nest:
    """What a tile's choice depends on: a convolution or a matrix product as a loop nest.

    Attributes:
        rows, columns, channels: of the output.
        taps: kernel positions (height × width), 1 for a product.
        inputs: input channels that one output sums over (1 for a depthwise convolution).
        depthwise: whether each output channel reads one input channel.
        stride: between neighbouring columns' inputs.
    """

    rows: int
    columns: int
    channels: int
    taps: int
    inputs: int
    depthwise: bool
    stride: int = 1

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return self.rows * self.columns * self.channels * self.taps * self.inputs

    @property
    def key(self) -> str:
        """Names it: equal nests get equal tiles."""
        kind = "d" if self.depthwise else "c"
        return f"{kind}{self.rows}x{self.columns}x{self.channels}-{self.taps}x{self.inputs}s{self.stride}"


def candidates(nest: Nest, vectors: Vectors) -> list[Tile]:
    """Tiles that fit into the registers, the best by `cost` first. Never empty; the same for the same arguments."""
    made = []
    for channels in _channels(nest.channels, vectors):
        for rows in _divisors(nest.rows, 4):
            for columns in _divisors(nest.columns, 16):
                tile = Tile(rows, columns, channels)
                if _registers(nest, tile, vectors) > vectors.registers:
                    continue
                made.append(tile)
                if vectors.by_lane and not nest.depthwise and nest.inputs % vectors.lanes == 0:
                    made.append(replace(tile, steps=vectors.lanes))
    if not made:
        made = [Tile(1, 1, min(_channels(nest.channels, vectors)))]
    return sorted(made, key=lambda tile: (cost(nest, tile, vectors), -tile.channels, tile.rows, str(tile)))


def cost(nest: Nest, tile: Tile, vectors: Vectors) -> float:
    """Instructions for as many multiply-adds as a register holds, about: in the innermost loop, and at a tile's end."""
    width = vectors.width(tile.channels)
    wide = tile.channels // width
    outputs = tile.rows * tile.columns
    shared: float
    whole: float = vectors.lanes / width  # registers that are not full
    if nest.depthwise:
        # Neighbouring columns share inputs where their windows overlap; weights are loaded once a tile.
        shared = 1 + (tile.columns - 1) * min(1.0, nest.stride / max(1, round(nest.taps**0.5)))
        loads = wide * (tile.rows * shared + 1)
        return whole * (wide * outputs + loads + 2 / max(1, nest.taps)) / (wide * outputs)
    weights = wide / 2 if vectors.by_lane else wide  # LDP loads two
    scalars = outputs / tile.steps if vectors.by_lane else 0.5 * outputs
    loop = 2 / tile.steps
    finish = 3 / max(1, nest.taps * nest.inputs) * wide * outputs
    return whole * (wide * outputs + weights + scalars + loop + finish) / (wide * outputs)


def _registers(nest: Nest, tile: Tile, vectors: Vectors) -> int:
    wide = -(-tile.channels // vectors.width(tile.channels))
    outputs = tile.rows * tile.columns
    sums = wide * outputs
    if nest.depthwise:
        return sums + wide + 2
    if vectors.by_lane:
        return sums + outputs + min(wide, 2)
    return sums + wide + 1


def _channels(count: int, vectors: Vectors) -> Sequence[int]:
    """Tiles' channels: those of up to eight vectors that divide all, of the widest vectors that there are."""
    width = vectors.width(count)
    most = 8 * width if count > vectors.lanes or width < count else width
    return [n for n in range(width, min(count, most) + 1, width) if count % n == 0]


def _divisors(count: int, most: int) -> list[int]:
    return [n for n in range(1, min(count, most) + 1) if count % n == 0]
