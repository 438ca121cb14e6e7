"""`compile`: the order of the stages, nothing else. Each stage's room knows nothing of its neighbours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from edgec import data, facts, frontends
from edgec.bundle import keys, sbom, writer
from edgec.bundle.envelope import canonical
from edgec.bundle.recipe import Recipe
from edgec.decide import Decision
from edgec.measure import accuracy
from edgec.measure.machine import this_machine
from edgec.progress import Progress, silent
from edgec.request import Request
from edgec.stages import boards as find
from edgec.stages import choose, emit, fuse, golden, inputs, quantize, reference, replay, splits


@dataclass(frozen=True)
class Compiled:
    """A written bundle: where it is, its identity, and what a person wants to know of it."""

    path: Path
    identity: str
    size: int
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
    recipe: Recipe | None = None,
    executor: str = "local",
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
        executor: where a search's trials run: "local", "local:N", "dask://HOST:PORT" (docs/search.md).
        recipe: replay this recipe's request and decisions instead of measuring (`edgec rebuild`).
        asked: the fields of `edgec.request.Request` (precision, max_drop, effort, shapes, exclude, golden, name …).

    Raises:
        edgec.errors.Error: with what, why and what to do; nothing is left at `output` then.
    """
    names = tuple(boards.split(",")) if isinstance(boards, str) else tuple(boards)
    request = (
        recipe.request if recipe else Request(boards=names, **{**asked, "name": asked.get("name") or app_name(source)})
    )
    kinds = find.find(request)
    machine = this_machine()
    with progress("reading the model", None):
        imported = frontends.load(source, shapes=request.shapes or None)
        original = reference.take(imported)
    if recipe is not None:
        replay.source(recipe, imported)
        replay.data(recipe, calib is not None, eval is not None)
    given = inputs.gather(imported, request, calib, eval, original.run)
    if recipe is not None:
        replay.content(recipe, given)
    with progress("running the passes", None):
        fused = fuse.fuse(imported, original.source, given, kinds, check_each=check_passes)
    first = fused[kinds[0].target.passes]
    wanted, note = choose.wanted(request, first.model, given, recipe)
    candidates: dict[str, list[emit.Candidate]] = {}
    left_out: dict[str, dict[str, str]] = {}
    groups = quantize.groups(kinds, request)
    by_passes = {passes: each.model for passes, each in fused.items()}
    decided = splits.splits(by_passes, kinds, request, given.batch) if "int8" in wanted else {}
    already = quantize.Already()
    quantized = {
        key: quantize.run(
            fused[key.passes].model,
            given,
            request,
            boards,
            wanted,
            progress,
            key.alike,
            recipe,
            executor,
            decided,
            already,
        )
        for key, boards in groups.items()
    }
    for kind in kinds:
        made = quantized[quantize.group(kind, request)]
        models = {"float32": fused[kind.target.passes].model, **made.models}
        note = made.why_not or note
        with progress(f"emitting for {kind.board.name}", None):
            able = [p for p in wanted if p in models]
            own = made.own(kind.board.name)
            chosen = recipe.measured.get("choices") if recipe else None
            emitted = emit.emit(models, kind, able, request.engines, batch=given.batch, own=own, choices=chosen)
        candidates[kind.board.name], left_out[kind.board.name] = emitted.candidates, emitted.refused
    yardstick = accuracy.Yardstick(original.run, given.evaluation, given.calibration)
    measured = choose.measure(candidates, yardstick, given, request, recipe, progress)
    measured.search = measured.search or quantize.searches(quantized.values())
    decisions = choose.choose(candidates, measured, kinds, request, recipe, note)
    payloads = choose.payloads(candidates, decisions)
    with progress("taking the golden answers", None):
        outputs = [str(v.name) for v in first.model.graph.outputs]
        vectors = golden.take(payloads, original.run, outputs, given, machine, request.seed, measured.own_way)
    report = facts.report(
        imported,
        original.note,
        first,
        list(quantized.values()),
        choose.accuracies(payloads, measured),
        decisions,
        measured.search,
        choose.left_out(left_out, candidates, measured, decisions),
        choose.predicted(payloads),
        {name: shipped.built.notes for name, shipped in payloads.items()},
    )
    manifest, files = facts.manifest(request, first.model, payloads, measured.accuracy, vectors, machine)
    recipe_ = Recipe(
        request=request,
        source={"format": imported.format, "sha256": imported.sha256, "bytes": imported.size},
        data=given.record(),
        decisions=tuple(d.as_dict() for d in decisions),
        measured={**measured.as_dict(), **choose.choices(payloads)},
        tools=facts.tools(),
    )
    files |= {facts.RECIPE: recipe_.to_json(), facts.REPORT: canonical(report)}
    files[facts.SBOM] = sbom.make(
        manifest["app"]["name"], request.version, facts.hashes(files), source_sha256=imported.sha256,
        tools=[sbom.Library(n, v) for n, v in facts.tools().items() if n in facts.TOOLS],
        engines=[sbom.Library(p["proven_with"]["package"], p["proven_with"]["version"]) for p in manifest["payloads"]],
    )  # fmt: skip
    with progress("writing and verifying the bundle", None):
        written = writer.write(output, manifest, files, [signer or keys.development_key()])
    return Compiled(
        Path(output), written.identity, Path(output).stat().st_size, written.manifest, tuple(decisions), report
    )


def app_name(source: str | Path | bytes) -> str:
    """A name for the app where the user gave none: the file's, or its folder's where the file is called model.onnx."""
    if isinstance(source, bytes):
        return "model"
    path = Path(source).resolve()
    stem = path.parent.name if path.stem == "model" else path.stem
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")[:64] or "model"
