"""Which layers each engine of each board computes in integers: decided for all at once, before any calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgec import quantize
from edgec.quantize.placement.costs import X86, Kernels
from edgec.quantize.placement.share import Way, share
from edgec.quantize.placement.worth import Split, Worth
from edgec.request import Request
from edgec.stages.boards import Kind
from edgec_targets import profiles
from edgec_targets.types import Board

Splits = Mapping[tuple[str, str], Worth]
"""(board, engine) -> its split, where the engine's costs on the board's cores are known."""


def splits(models: Mapping[tuple[str, ...] | None, ir.Model], kinds: Sequence[Kind], request: Request) -> Splits:
    """Decide by the engines' costs (`placement/costs.py`, `edgec_targets.profiles`), with as few models as that takes.

    Args:
        models: after the passes that a target wants.
        kinds: the boards.
        request: what was asked; a search decides for itself.
    """
    if request.effort == "search":
        return {}
    found: dict[tuple[str, str], Worth] = {}
    for passes in dict.fromkeys(kind.target.passes for kind in kinds):
        several: dict[tuple[str, str], Way] = {}
        known: dict[int, tuple[Split, Worth]] = {}
        for kind in kinds:
            if kind.target.passes != passes:
                continue
            for engine in _engines(kind, request):
                costs = kernels(engine, kind.board)
                if costs is None:
                    continue
                if id(costs) not in known:
                    split = quantize.split(models[passes], costs, exclude=request.exclude, margin=margin(costs))
                    known[id(costs)] = split, split.best()
                several[kind.board.name, engine] = Way(kind.board.name, engine, *known[id(costs)])
        found |= share(list(several.values()))
    return found


def kernels(engine: str, board: Board) -> Kernels | None:
    """What an engine's kernels cost on a board; None where nobody has counted or timed them."""
    if engine == "onnxruntime" and board.arch == "x86_64":
        return X86
    return profiles.find(engine, board)


def margin(costs: Kernels) -> float:
    """What a mixture must be expected to save: twice the error of what was timed. Counts have no noise to allow for.

    Times of small layers also say little of large ones, whose data don't fit into the caches.
    """
    return 2 * costs.error if isinstance(costs, profiles.Profile) and costs.unit == "ns" else 0.0


def _engines(kind: Kind, request: Request) -> list[str]:
    names = [emitter.name for emitter in kind.target.emitters if emitter.name in kind.board.engines]
    return [name for name in names if not request.engines or name in request.engines]
