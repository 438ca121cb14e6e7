"""Kernels of a lowered module: scheduled, and made machine code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import tirx

from edgec_targets.emitters.tvm import schedule
from edgec_targets.emitters.tvm.code import SPREAD
from edgec_targets.emitters.tvm.tiles import Nest, Tile, Vectors

_WORTH_THREADS = 400_000
"""Multiply-adds of a kernel from which on waking other threads pays (they take some 20 microseconds)."""


def kernels(module: Any) -> dict[str, Any]:
    """Name -> PrimFunc of a lowered module."""
    found = {gv.name_hint: function for gv, function in module.functions.items() if isinstance(function, tirx.PrimFunc)}
    return {name: found[name].with_attr("global_symbol", name) for name in sorted(found)}


@dataclass(frozen=True)
class Scheduled:
    """All kernels. `plain`: those whose schedule did not fit; `spread`: those that have a form for several threads."""

    module: Any
    plain: tuple[str, ...]
    spread: tuple[str, ...]


def scheduled(
    functions: Mapping[str, Any], nests: Mapping[str, Nest], tiles: Mapping[str, Tile], vectors: Vectors, *,
    parallel: bool,
) -> Scheduled:  # fmt: skip
    """Schedule all kernels; one that the schedule does not fit keeps the plain loops that TVM made."""
    made, plain, spread = {}, [], []
    for name, function in functions.items():
        nest = nests.get(name)
        tile = tiles[nest.key] if nest else None
        one = attempt(function, tile, vectors, parallel=False)
        if one is None:
            plain.append(name)
        made[name] = one or function
        if parallel and one is not None and nest is not None and nest.work >= _WORTH_THREADS:
            several = attempt(function, tile, vectors, parallel=True)
            if several is not None:
                made[f"{name}{SPREAD}"] = several.with_attr("global_symbol", f"{name}{SPREAD}")
                spread.append(name)
    return Scheduled(tvm.IRModule(made), tuple(plain), tuple(spread))


def attempt(function: Any, tile: Tile | None, vectors: Vectors, *, parallel: bool) -> Any:
    """The scheduled function, or None where the schedule does not fit: TVM's errors are of many classes."""
    try:
        return schedule.schedule(function, tile, vectors, parallel=parallel)
    except Exception:
        return None


def build(module: Any, target: Any) -> Any:
    """Machine code of an IRModule. Kernels' own checks are left out: what calls them is a table that fits."""
    with tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        return tvm.tirx.build(module, target=target)
