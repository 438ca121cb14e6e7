"""What the counting plugin reports: instructions by class, a region at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Counts:
    """Executed aarch64 instructions, by class; the classes overlap with `instructions` only.

    Attributes:
        instructions: all.
        loads, stores: instructions that read or write memory (a pair counts once).
        branches: branches, exceptions and system instructions.
        simd: Advanced SIMD and scalar floating point.
        fmla: fused multiply-adds of floating point (one instruction is up to eight of them).
        dot: SDOT, UDOT, USDOT, SUDOT: the int8 dot products of Armv8.2.
        mmla: SMMLA, UMMLA, USMMLA: the int8 matrix products of Armv8.6.
        smlal: SMLAL, SMULL and their like: what int8 kernels of older cores are made of.
        sve: instructions of the Scalable Vector Extension.
    """

    instructions: int = 0
    loads: int = 0
    stores: int = 0
    branches: int = 0
    simd: int = 0
    fmla: int = 0
    dot: int = 0
    mmla: int = 0
    smlal: int = 0
    sve: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))

    def as_dict(self) -> dict[str, int]:
        """Name -> number."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Region:
    """What ran between a mark and the one before it. `tag` is the mark's number; None for what follows the last."""

    tag: int | None
    counts: Counts


_WORDS = {
    "insn": "instructions", "load": "loads", "store": "stores", "branch": "branches", "simd": "simd", "fmla": "fmla",
    "dot": "dot", "mmla": "mmla", "smlal": "smlal", "sve": "sve",
}  # fmt: skip


def parse(lines: Iterable[str]) -> tuple[Region, ...]:
    """The regions of a report of counter.c, one a line. Raises ValueError for a line that is none."""
    regions = []
    for line in lines:
        tag, *words = line.split()
        numbers = {}
        for word in words:
            name, _, value = word.partition("=")
            if name not in _WORDS:
                raise ValueError(f"the plugin counts {name!r}, which this version does not know")
            numbers[_WORDS[name]] = int(value)
        if len(numbers) != len(_WORDS):
            raise ValueError(f"the line {line[:80]!r} lacks a class")
        regions.append(Region(None if tag == "exit" else int(tag), Counts(**numbers)))
    return tuple(regions)


def total(regions: Iterable[Region]) -> Counts:
    """All regions together."""
    return sum((region.counts for region in regions), Counts())
