"""What a board can't run and why, by node, before anything is compiled; and what a person should know besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgec_targets.types import Board, Problem, Target

if TYPE_CHECKING:
    import onnx_ir as ir

    from edgec_targets.memory import Estimate

# Share of a board's memory that a model may take before it deserves a word: the rest is the system's and the engine's.
_NOTEWORTHY = 0.5


@dataclass(frozen=True)
class Facts:
    """Besides problems: what running this model on this board is like."""

    memory: Estimate
    notes: tuple[str, ...]


def check(model: ir.Model, board: Board, target: Target | None = None) -> list[Problem]:
    """Return what keeps `board` from running `model`; an empty list when some emitter of its target can.

    Of several emitters (optional ones apart), the problems are those of the one with the fewest. Weights and
    activations that can't fit into the board's memory are a problem too, at no node.
    """
    if target is None:
        from edgec_targets.registry import target as find

        target = find(board.target)
    model = target.legalize(model.clone(), board) if target.legalize else model
    usual = [emitter for emitter in target.emitters if not getattr(emitter, "optional", False)]
    found = min((emitter.problems(model, board) for emitter in usual), key=len)
    return [*found, *_memory(facts(model, board), board)]


def facts(model: ir.Model, board: Board) -> Facts:
    """The memory estimate, and notes: dynamic shapes, values of unknown size, memory that is nearly used up."""
    from edgec_targets.memory import estimate

    memory = estimate(model)
    notes = list(_dynamic(model))
    if memory.unknown:
        notes.append(f"{memory.unknown} values have no known size; the memory estimate leaves them out.")
    if board.memory and _NOTEWORTHY * board.memory < memory.total <= board.memory:
        notes.append(f"The model takes {memory.total / board.memory:.0%} of the board's memory, without the engine.")
    return Facts(memory, tuple(notes))


def _memory(known: Facts, board: Board) -> Sequence[Problem]:
    total = known.memory.total
    if board.memory is None or total <= board.memory:
        return []
    why = (
        f"Weights take {known.memory.weights / 1e6:.1f} MB and activations {known.memory.activations / 1e6:.1f} MB "
        f"(an estimate); the board has {board.memory / 1e6:.0f} MB in all."
    )
    return [Problem("", "", why, "Use a smaller model or input shape (--shape), or int8.")]


def _dynamic(model: ir.Model) -> Sequence[str]:
    """A sentence an input that has symbolic dimensions: they keep an engine from planning its memory."""
    notes = []
    for value in model.graph.inputs:
        if value.name in model.graph.initializers or value.shape is None:
            continue
        names = [str(d) for d in value.shape if not isinstance(d, int)]
        if names:
            shape = ",".join(str(d) for d in value.shape)
            notes.append(
                f"Input '{value.name}' has free dimensions [{shape}], counted as 1 in the memory estimate: "
                f"--shape {value.name}=… fixes them where they are known."
            )
    return notes
