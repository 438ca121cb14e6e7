"""Candidates: every precision that may be chosen, for every board, by its target's first emitter that can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgec.errors import UnsupportedError
from edgec.measure.machine import this_machine
from edgec.quantize import portable
from edgec.stages.boards import Kind
from edgec_targets.types import Board, Built


@dataclass(frozen=True)
class Candidate:
    """One payload that could ship for a board; `name` is its precision, or the variant of it."""

    kind: Kind
    built: Built
    name: str

    @property
    def precision(self) -> str:
        """float32 or int8."""
        return self.built.precision

    @property
    def digest(self) -> str:
        """SHA-256 of its files' bytes: candidates of several boards often are the same file."""
        h = hashlib.sha256()
        for role, (_, content) in sorted(self.built.files.items()):
            h.update(f"{role}\0{len(content)}\0".encode() + content)
        return h.hexdigest()


def emit(models: Mapping[str, ir.Model], kind: Kind, precisions: Sequence[str]) -> list[Candidate]:
    """Emit `models[precision]` for a board in each of `precisions`; seven-bit variants only where CPUs may saturate.

    On a machine that saturates itself, eight-bit weights can't be proven for such boards: they get seven bits alone.
    Raises UnsupportedError (exit 4) that lists each emitter's refusal where none can write a precision.
    """
    made: list[Candidate] = []
    board = kind.board
    saturates = portable.may_saturate(board.arch, board.isa)
    unproven = saturates and portable.NARROW in models and not this_machine().exact_int8
    for precision in precisions:
        if precision == portable.NARROW and (not saturates or unproven):
            continue
        source = portable.NARROW if precision == "int8" and unproven else precision
        model = models[source]
        if kind.target.legalize is not None:
            model = kind.target.legalize(model.clone(), kind.board)
        refusals = []
        for emitter in kind.target.emitters:
            try:
                plain = "int8" if precision == portable.NARROW else precision
                built = emitter.emit(model, board, precision=plain)
                made.append(Candidate(kind, _conditions(built, source, board), precision))
                break
            except UnsupportedError as e:
                refusals.append(e)
        else:
            if len(refusals) == 1:
                raise refusals[0]
            raise UnsupportedError(
                f"no engine of {kind.board.name} can run this model in {precision}",
                "; ".join(f"{e.what} ({e.why})" if e.why else e.what for e in refusals),
                f"edgec check MODEL -t {kind.board.name} names the nodes.",
            )
    return made


def _conditions(built: Built, source: str, board: Board) -> Built:
    """What the CPU must have for a payload's answers to be those that were proven; files named after the variant."""
    if source == portable.NARROW:
        files = {role: (name.replace("int8", source), content) for role, (name, content) in built.files.items()}
        return replace(built, files=files)
    if built.precision == "int8" and board.arch == "x86_64":
        feature = next((f for f in portable.EXACT if f in board.isa), portable.EXACT[0])
        return replace(built, isa=(*built.isa, feature))
    return built
