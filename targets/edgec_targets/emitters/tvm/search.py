"""The search of tiles: a few candidates for each distinct nest, the best by `tiles.cost`, tried out.

On this machine by time: CPU time of this process, candidates in turn, medians. For an Arm board by instructions counted
on an emulated core, exactly. Both are bounded; what is not reached is chosen by cost. Choices are recorded, so that a
compile can be repeated with them: times differ from run to run.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from edgec_targets.emitters.tvm import build, code, count, link
from edgec_targets.emitters.tvm.cpu import Cpu
from edgec_targets.emitters.tvm.program import ALIGNMENT, Call, Program, Tensor
from edgec_targets.emitters.tvm.tiles import Nest, Tile, candidates

SECONDS = 40.0
"""Wall time of a search by measuring, compiling its candidates included."""
_TRIED, _TRIED_EMULATED = 6, 3
_MOST = 24
"""Nests that are counted, those of the most work: candidates are compiled and run in one go."""
_ROUNDS, _TURN = 7, 0.002
"""Rounds over the candidates, and seconds of each one's turn."""
_NEARLY = 0.02
"""A candidate must be better than the one by cost by this share: less is noise."""

Tiles = dict[str, Tile]


def measured(
    functions: Mapping[str, Any], nests: Mapping[str, Nest], program: Program, cpu: Cpu, tiles: Tiles
) -> Tiles:
    """Tiles by CPU time on this machine, those of the most work first, until the time is up."""
    target = tvm.target.Target(cpu.target)
    end = time.monotonic() + SECONDS
    made = dict(tiles)
    for name, nest in _distinct(nests, program):
        if nest.key in made or time.monotonic() > end:
            continue
        tried = candidates(nest, cpu.vectors)[:_TRIED]
        if len(tried) > 1:
            made[nest.key] = tried[_fastest(functions[name], tried, cpu, target, _call(program, name))]
    return made


def counted(
    functions: Mapping[str, Any], nests: Mapping[str, Nest], program: Program, cpu: Cpu, tiles: Tiles, folder: Path,
    core: str,
) -> Tiles:  # fmt: skip
    """Tiles by instructions on an emulated core; unchanged where the emulator has none, or takes too long."""
    todo = [(name, nest) for name, nest in _distinct(nests, program) if nest.key not in tiles][:_MOST]
    variants, tried = {}, []
    trial = Program([], [], [], {}, {})
    for name, nest in todo:
        for number, tile in enumerate(candidates(nest, cpu.vectors)[:_TRIED_EMULATED]):
            variant = f"{name}__{number}"
            scheduled = build.attempt(functions[name], tile, cpu.vectors, parallel=False)
            if scheduled is not None:
                variants[variant] = scheduled.with_attr("global_symbol", variant)
                tried.append((nest, tile))
                trial.calls.append(Call(variant, _places(trial, _call(program, name))))
    if not tried:
        return tiles
    built = build.build(tvm.IRModule(variants), tvm.target.Target(cpu.target))
    built.write_to_file(str(folder / "kernels.o"), "o")
    text = code.tables(trial, ([], []), spread=())
    link.link(folder, ["kernels.o"], text, code.blob(trial), arch=cpu.arch, glibc=cpu.glibc)
    counts = count.steps(folder / "model.so", len(tried), core)
    made: Tiles = dict(tiles)
    least: dict[str, int] = {}
    for (nest, tile), instructions in zip(tried, counts or [], strict=False):
        if nest.key not in least or instructions < least[nest.key]:
            least[nest.key] = instructions
            made[nest.key] = tile
    return made


def _distinct(nests: Mapping[str, Nest], program: Program) -> Iterable[tuple[str, Nest]]:
    """One kernel of each nest, those that take most of the model's work first."""
    calls: dict[str, int] = {}
    for call in program.calls:
        if call.kernel in nests:
            key = nests[call.kernel].key
            calls[key] = calls.get(key, 0) + nests[call.kernel].work
    first: dict[str, tuple[str, Nest]] = {}
    for name, nest in nests.items():
        if nest.key in calls:
            first.setdefault(nest.key, (name, nest))
    return sorted(first.values(), key=lambda pair: (-calls[pair[1].key], pair[0]))


def _call(program: Program, name: str) -> Call:
    return next(call for call in program.calls if call.kernel == name)


def _fastest(function: Any, tried: list[Tile], cpu: Cpu, target: Any, call: Call) -> int:
    """Which candidate takes the least CPU time; 0, the one by cost, where none is clearly better."""
    variants = {}
    for number, tile in enumerate(tried):
        scheduled = build.attempt(function, tile, cpu.vectors, parallel=False)
        if scheduled is not None:
            variants[number] = scheduled.with_attr("global_symbol", f"k{number}")
    library = build.build(tvm.IRModule({f"k{n}": f for n, f in variants.items()}), target)
    random = np.random.default_rng(0)
    given = [tvm.runtime.tensor(random.standard_normal(t.shape).astype(t.dtype)) for t in call.arguments]
    runs = {number: library[f"k{number}"] for number in variants}
    calls, taken = {}, {number: [] for number in runs}  # type: dict[int, int], dict[int, list[float]]
    for number, run in runs.items():
        run(*given)
        begin = time.process_time()
        run(*given)
        calls[number] = max(1, min(200, math.ceil(_TURN / max(time.process_time() - begin, 1e-6))))
    for turn in range(_ROUNDS):
        for number in sorted(runs, reverse=bool(turn % 2)):
            run, count_ = runs[number], calls[number]
            begin = time.process_time()
            for _ in range(count_):
                run(*given)
            taken[number].append((time.process_time() - begin) / count_)
    medians = {number: statistics.median(values) for number, values in taken.items()}
    best = min(medians, key=lambda number: (medians[number], number))
    return 0 if 0 in medians and medians[best] > (1 - _NEARLY) * medians[0] else best


def _places(trial: Program, call: Call) -> tuple[Tensor, ...]:
    """A call's tensors in the trial's own memory, one after the other: what they hold is of no importance."""
    found, offset = [], 0
    for tensor in call.arguments:
        root = len(trial.places)
        trial.places[root] = ("arena", offset)
        found.append(Tensor(root, tensor.dtype, tensor.shape))
        size = math.prod(tensor.shape) * np.dtype(tensor.dtype).itemsize
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    trial.arena = max(trial.arena, offset)
    return tuple(found)
