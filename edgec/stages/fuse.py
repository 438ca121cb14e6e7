"""The float model of each target: clean-up and fusions, held against the model as the user gave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgec import passes
from edgec.frontends import Imported
from edgec.stages.boards import Kind
from edgec.stages.inputs import Inputs


@dataclass(frozen=True)
class Fused:
    """`model` is what every emitter starts from; `applied` and the node counts are for the report."""

    model: ir.Model
    applied: Sequence[passes.Applied]
    before: dict[str, int]
    after: dict[str, int]
    checked: int
    """Inputs on which the outputs were compared with the original's."""


def fuse(
    imported: Imported, original: bytes | Path, inputs: Inputs, kinds: Sequence[Kind], *, check_each: bool
) -> dict[tuple[str, ...] | None, Fused]:
    """Run each target's pass list on a copy of the model; outputs are compared at least once, on `inputs.checks`."""
    made: dict[tuple[str, ...] | None, Fused] = {}
    for kind in kinds:
        wanted = kind.target.passes
        if wanted in made:
            continue
        model = imported.model.clone()
        check: Any = passes.outputs_check(original, inputs.checks) if inputs.checks else None
        applied = passes.run(model, wanted, check=check if check_each else None)
        if check is not None and not check_each and any(p.changed for p in applied):
            check(model, "all passes")
        made[wanted] = Fused(model, applied, passes.counts(imported.model), passes.counts(model), len(inputs.checks))
    return made
