"""Which layers each engine of each board computes in integers: decided for all at once, before any calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from edgec import quantize
from edgec.errors import MissingError, UnsupportedError
from edgec.quantize import portable
from edgec.quantize.placement.costs import X86, Kernels
from edgec.quantize.placement.share import Way, share
from edgec.quantize.placement.worth import Split, Worth
from edgec.request import Request
from edgec.stages import emit
from edgec.stages.batch import UNKNOWN
from edgec.stages.boards import Kind
from edgec_targets import profiles
from edgec_targets.types import Board

Splits = Mapping[tuple[str, str], Worth]
"""(board, engine) -> its split, where the engine's costs on the board's cores are known."""


def splits(
    models: Mapping[tuple[str, ...] | None, ir.Model], kinds: Sequence[Kind], request: Request, batch: str = UNKNOWN
) -> Splits:
    """Decide by the engines' costs (`placement/costs.py`, `edgec_targets.profiles`), with as few models as that takes.

    Args:
        models: after the passes that a target wants.
        kinds: the boards.
        request: what was asked; a search decides for itself.
        batch: what the model does with several samples (`batch.kind`).
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
        found |= share(_possible(list(several.values()), models[passes], kinds, request, batch))
    return found


def _possible(ways: Sequence[Way], model: ir.Model, kinds: Sequence[Kind], request: Request, batch: str) -> list[Way]:
    """Without engines that can't run the model: none of the others shall take its split. Asked only where that matters.

    The float model stands for the int8 one: an engine that refuses that alone is found out when its payload is written.
    """
    first = {way.board: way.best.dropped for way in ways if way.engine == portable.ENGINE}
    answers: dict[str, bool] = {}
    kept = []
    for way in ways:
        if way.engine != portable.ENGINE and first.get(way.board, way.best.dropped) != way.best.dropped:
            if way.engine not in answers:
                kind = next(kind for kind in kinds if kind.board.name == way.board)
                answers[way.engine] = _able(way.engine, model, kind, request, batch)
            if not answers[way.engine]:
                continue
        kept.append(way)
    return kept


def _able(engine: str, model: ir.Model, kind: Kind, request: Request, batch: str) -> bool:
    emitter = next(emitter for emitter in kind.target.emitters if emitter.name == engine)
    if not emit.fits(model, emitter, request.engines, batch):
        return False
    try:
        return not emitter.problems(model, kind.board)
    except (UnsupportedError, MissingError):
        return False


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
