"""`compile`: the order of the stages, nothing else. Each stage's room knows nothing of its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec import data, facts, stages
from edgec.bundle import recipe as recipes
from edgec.bundle import writer
from edgec.bundle.keys import Signer
from edgec.decide import Decision
from edgec.progress import Progress, silent
from edgec.request import Request


@dataclass(frozen=True)
class Compiled:
    """A written bundle: where it is, its identity, and what a person wants to know of it."""

    path: Path
    identity: str
    manifest: Mapping[str, Any]
    decisions: tuple[Decision, ...]
    report: Mapping[str, Any]


def compile(
    source: str | Path | bytes,
    boards: str | Sequence[str],
    *,
    output: str | Path,
    calib: str | data.Dataset | None = None,
    eval: str | data.Evaluation | None = None,
    signer: Signer | None = None,
    check_passes: bool = False,
    progress: Progress = silent,
    recipe: recipes.Recipe | None = None,
    **asked: Any,
) -> Compiled:
    """Compile a model for boards into one signed bundle at `output`.

    Args:
        source: an ONNX file, or its bytes.
        boards: names as `edgec boards` lists them (a string may hold several, separated by commas).
        output: the `.edge` file; written whole or not at all.
        calib: calibration inputs (DATA of the command line, or a Dataset). Without, the answer is float32.
        eval: evaluation data; without, accuracy is agreement with the float model on the calibration inputs.
        signer: the key to sign with; None signs with this user's development key.
        check_passes: compare the outputs on real inputs after every single pass, not only after the last.
        progress: told of each stage.
        recipe: replay this recipe's decisions instead of measuring (`edgec rebuild`).
        asked: the fields of `edgec.request.Request` (precision, max_drop, effort, shapes, exclude, golden, name, version …).

    Raises:
        edgec.errors.Error: with what, why and what to do; nothing is left at `output` then.
    """
    names = tuple(boards.split(",")) if isinstance(boards, str) else tuple(boards)
    request = recipe.request if recipe else Request(boards=names, **asked)
    kinds = stages.boards(request)
    with progress("reading the model", None):
        imported = stages.source(source, request)
    inputs = stages.inputs(imported, request, calib, eval)
    stages.matches(recipe, imported, inputs)
    with progress("running the passes", None):
        fused = stages.fuse(imported, inputs, kinds, check_each=check_passes)
    quantized = stages.quantize(fused, inputs, request, recipe, progress)
    candidates = stages.emit(fused, quantized, kinds, request, recipe)
    measured = stages.measure(candidates, imported, inputs, request, recipe, progress)
    decisions = stages.decide(measured, kinds, request, recipe)
    with progress("taking the golden answers", None):
        payloads = stages.chosen(candidates, measured, decisions)
        golden = stages.golden(payloads, imported, inputs, request)
    made = recipes.Recipe(
        request=request,
        decisions=tuple(d.as_dict() for d in decisions),
        measured=measured.as_dict(),
        source=stages.source_record(imported),
        data=inputs.record(),
        tools=facts.tools(),
    )
    report = facts.report(imported, fused, quantized, measured, decisions)
    manifest, files = facts.manifest(request, imported, payloads, golden, made, report)
    with progress("writing and verifying the bundle", None):
        identity, manifest = writer.write(Path(output), manifest, files, [signer or stages.development_signer()])
    return Compiled(Path(output), identity, manifest, decisions, report)
