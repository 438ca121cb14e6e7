"""Candidates: every precision that may be chosen, for every board, by its target's first emitter that can."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgec.errors import UnsupportedError
from edgec.stages.boards import Kind
from edgec_targets.types import Built


@dataclass(frozen=True)
class Candidate:
    """One payload that could ship for a board."""

    kind: Kind
    built: Built

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
    """Emit `models[precision]` for a board in each of `precisions`.

    Raises UnsupportedError (exit 4) that lists each emitter's refusal where none can write a precision.
    """
    made = []
    for precision in precisions:
        model = models[precision]
        if kind.target.legalize is not None:
            model = kind.target.legalize(model.clone(), kind.board)
        refusals = []
        for emitter in kind.target.emitters:
            try:
                made.append(Candidate(kind, emitter.emit(model, kind.board, precision=precision)))
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
