"""Profiles: what an engine's kernels take on a class of cores, as formulas fitted to counts.

A profile is for one engine and one class of cores (`CORES`): Armv8.0, with dot products, with int8 matrix products;
x86-64 with VNNI for LiteRT. Its unit is the executed instruction, exact and no time (docs/arm.md), or for x86-64, where
it can be measured, the nanosecond. `python -m benchmarks.kernel_counts` counts again and writes the files in `data/`.

    profile = profiles.find("litert", board)
    profile.payload(content).amount  # of one inference by this file
    profile.node_cost(node)           # of a layer in float and in integers, before any is decided
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import inf
from pathlib import Path

from edgec_targets.profiles.profile import Estimate, Profile
from edgec_targets.profiles.work import Work
from edgec_targets.types import Board, Built

__all__ = ["CORES", "Estimate", "Profile", "Work", "core", "estimate", "find", "load", "rank", "words"]

DATA = Path(__file__).with_name("data")
NAMES = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT", "tvm": "TVM"}
CORES = {
    "armv8.0": "Cortex-A53-class cores",
    "armv8.0-a72": "Cortex-A72-class cores",
    "dotprod": "Cortex-A76-class cores",
    "i8mm": "cores with int8 matrix products",
    "vnni": "x86-64 with AVX-512 VNNI",
}
"""Class of cores -> its title."""


def core(board: Board) -> str:
    """The class of cores that a board has, by what its ISA says and its CPU's name; empty where none is profiled."""
    if board.arch == "aarch64":
        if "i8mm" in board.isa:
            return "i8mm"
        if "asimddp" in board.isa:
            return "dotprod"
        return "armv8.0-a72" if "A72" in board.cpu else "armv8.0"
    return "vnni" if board.arch == "x86_64" and "avx512_vnni" in board.isa else ""


def find(engine: str, board: Board) -> Profile | None:
    """The profile of an engine on a board's cores; None where there is none."""
    return load(engine, core(board))


@lru_cache(maxsize=32)
def load(engine: str, core: str) -> Profile | None:
    """The profile of an engine on a class of cores, as committed; None where there is none."""
    path = DATA / f"{engine}-{core}.json"
    if not core or not path.is_file():
        return None
    return Profile.from_dict(json.loads(path.read_text()))


def estimate(built: Built, board: Board) -> Estimate | None:
    """What one inference by a payload takes on a board; None without a profile, or where its file can't be read."""
    profile = find(built.engine, board)
    held = built.files.get("model")
    if profile is None or held is None:
        return None
    try:
        return profile.payload(held[1])
    except Exception:  # an estimate: whatever a file's reader dislikes, its engine has taken it already
        return None


def rank(board: Board, several: Sequence[Built], order: Sequence[str]) -> tuple[str, ...]:
    """Engines of payloads of one precision: the least predicted first, behind those without a profile as in `order`."""
    found = {built.engine: estimate(built, board) for built in several}
    known = {engine: each.amount for engine, each in found.items() if each is not None}
    places = {engine: place for place, engine in enumerate(order)}

    def key(engine: str) -> tuple[float, int]:
        return known.get(engine, inf), places.get(engine, len(places))

    return tuple(sorted(found, key=key))


def words(found: Mapping[str, Estimate]) -> str:
    """Why the first of these engines is first, in a sentence; empty for fewer than two."""
    several = sorted(found.items(), key=lambda item: item[1].amount)
    if len(several) < 2:
        return ""
    (first, least), *others = several
    amounts = ", ".join(f"{NAMES.get(name, name)} {_size(each)}" for name, each in others)
    about = "instructions, not a time" if least.unit == "instructions" else "nanoseconds"
    return (
        f"{NAMES.get(first, first)} first: about {_size(least)} predicted for {CORES[least.core]}, {amounts} ({about})"
    )


def _size(found: Estimate) -> str:
    amount = found.amount / 1e6
    return f"{amount:.3g} M" if amount < 1000 else f"{amount:.0f} M"
