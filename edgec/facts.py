"""Facts into JSON: the manifest, the report and the versions of the tools, from what the stages made.

No clock and no randomness here: the same stages give the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

if TYPE_CHECKING:
    from edgec.decide import Decision
    from edgec.frontends import Imported
    from edgec.measure.accuracy import Accuracy
    from edgec.measure.machine import Machine
    from edgec.passes import Applied
    from edgec.request import Request
    from edgec.stages.emit import Candidate
    from edgec.stages.fuse import Fused
    from edgec.stages.golden import Vectors
    from edgec.stages.quantize import Quantized
    from edgec_targets.types import Built

TOOLS = ("edgec", "edgec-runtime", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")
OPTIONAL = ("ai-edge-litert", "apache-tvm", "ncnn", "ziglang")  # where it is installed there may be payloads for it


def tools() -> dict[str, str]:
    """Versions of everything that can change the bytes of a bundle."""
    found = {n: version(n) for n in TOOLS}
    for name in OPTIONAL:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return {"python": platform.python_version(), "zlib": zlib.ZLIB_RUNTIME_VERSION, **found}


def dtype(value: ir.Value) -> str:
    """The element type's name as the manifest writes it: numpy's ("float32"), "string", or ONNX's ("bfloat16")."""
    kind = value.dtype
    if kind is None:
        return "unknown"
    return "float32" if kind == ir.DataType.FLOAT else kind.name.lower() if kind not in _NAMES else _NAMES[kind]


_NAMES = {ir.DataType.DOUBLE: "float64"}


def ports(model: ir.Model) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs for the manifest: name, dtype, shape (int, the symbolic name, or "?" for any)."""

    def port(value: ir.Value) -> dict[str, Any]:
        shape: list[int | str] = []
        for dim in value.shape or ():
            shape.append(dim if isinstance(dim, int) else str(dim.value) if dim.value is not None else "?")
        return {"name": value.name, "dtype": dtype(value), "shape": shape, "layout": None}

    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    return [port(v) for v in given], [port(v) for v in model.graph.outputs]


def passes(applied: Sequence[Applied]) -> list[dict[str, Any]]:
    """What each pass did, for the report."""
    return [
        {
            "name": p.name,
            "changed": p.changed,
            "nodes": [p.nodes_before, p.nodes_after],
            "fired": [{"rule": f.rule, "count": f.count, "nodes": list(f.nodes)} for f in p.fired],
            "refused": [{"rule": r.rule, "node": r.node, "why": r.why} for r in p.refused],
        }
        for p in applied
    ]


def report(
    imported: Imported,
    reference_note: str,
    fused: Fused,
    quantized: Sequence[Quantized],
    accuracy: Mapping[str, Any],
    decisions: Sequence[Decision],
    search: Mapping[str, Any] | None = None,
    left_out: Mapping[str, Mapping[str, str]] | None = None,
    predicted: Mapping[str, Any] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """report.json: everything that `edgec inspect` and the report page show. No times: those stay on the host.

    What a `search` found is shown whatever shipped: it is replayed from the recipe with its decisions. `quantized` has
    one entry for each group of boards that got models of their own; `left_out`: board -> payload -> why it has none;
    `predicted`: payload -> what its profile says an inference takes: never a measurement; `notes`: payload -> what its
    emitter says of the file.
    """
    shipped = {d.precision for d in decisions}
    reports = [made for q in quantized if (made := q.shown(shipped))]
    if not reports and search:
        reports = [{"search": dict(search)}]
    return {
        "format": 1,
        "source": {
            "format": imported.format, "sha256": imported.sha256, "bytes": imported.size,
            "opset": imported.opset, "ir_version": imported.ir_version,
            "notes": [note for note in (*imported.notes, reference_note) if note],
        },
        "operators": {"before": fused.before, "after": fused.after},
        "passes": passes(fused.applied),
        "outputs_compared_on": fused.checked,
        # Only where it ships: a recipe replays what was decided, not what was tried.
        "quantization": {**reports[0], "others": reports[1:]} if reports[1:] else reports[0] if reports else None,
        "accuracy": dict(accuracy),
        "predicted": dict(predicted or {}),
        "notes": {name: list(said) for name, said in (notes or {}).items() if said},
        "decisions": [d.as_dict() for d in decisions],
        "left_out": {board: dict(why) for board, why in (left_out or {}).items()},
    }  # fmt: skip


def manifest(
    request: Request,
    model: ir.Model,
    payloads: Mapping[str, Candidate],
    accuracy: Mapping[str, Accuracy | None],
    vectors: Vectors,
    machine: Machine,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest without its members, and the payload and golden files. `payloads` are in order of preference."""
    inputs, outputs = ports(model)
    files: dict[str, bytes] = {}
    entries = []
    package = {c.engine: c.built.package or c.engine for c in payloads.values()}
    engine = {name: version(distribution) for name, distribution in package.items()}
    here = {name: v for name, v in engine.items() if any(c.engine == name and c.runs_here for c in payloads.values())}
    for name, candidate in payloads.items():
        built, board = candidate.built, candidate.kind.board
        measured = accuracy.get(candidate.digest)
        entries.append(
            {
                "id": name,
                "engine": built.engine,
                "engine_version": built.engine_version,
                "proven_with": {"package": package[built.engine], "version": engine[built.engine]},
                "files": {role: _member(files, built, role, board.name) for role in built.files},
                "board": board.name,
                "arch": board.arch,
                "isa": list(built.isa),
                "board_isa": list(board.isa),
                **({"glibc": built.glibc} if built.glibc else {}),
                "portable": built.portable,
                "native_code": built.native_code,
                "precision": built.precision,
                "opset": built.opset,
                "memory": built.memory,
                "options": dict(built.options),
                "accuracy": measured.as_dict() if measured else None,
                "golden": vectors.entries[name],
            }
        )
    ran = any(vectors.entries.values()) or any(accuracy.values())
    made = {
        "format": 1,
        "app": {
            "name": request.name or "model",
            "version": request.version,
            "sequence": request.sequence,
            **({} if request.security_floor is None else {"floor": request.security_floor}),
            **({} if request.expires is None else {"expires": request.expires}),
        },
        **({"hooks": {point: list(names) for point, names in request.hooks.items()}} if request.hooks else {}),
        "inputs": inputs,
        "outputs": outputs,
        "preprocessing": [],
        "postprocessing": [],
        "payloads": entries,
        "golden": vectors.golden.section(),
        "recipe": RECIPE,
        "report": REPORT,
        "sbom": SBOM,
        "compiled_for": list(request.boards),
        "checked_by": [
            {
                "tool": name,
                "version": v,
                "what": "every payload was loaded by this engine on the machine that compiled it"
                if all(c.runs_here for c in payloads.values() if c.engine == name)
                else "payloads for this machine's architecture were loaded by this engine here, others were not run",
            }
            for name, v in sorted(here.items())
        ],
        "run_on": [
            *(
                {"machine": machine.arch, "cpu": machine.cpu, "isa": list(machine.isa), "engine": n, "version": v}
                for n, v in sorted(here.items())
            ),
            *vectors.emulated,
        ]
        if ran
        else [],
    }
    return made, {**files, **vectors.golden.files(), **vectors.files}


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 (hex) of the payloads' files, for the bill of materials."""
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name.startswith("payloads/")}


RECIPE, REPORT, SBOM = "recipe.json", "report.json", "sbom.cdx.json"


def _member(files: dict[str, bytes], built: Built, role: str, board: str) -> str:
    """The member that holds this file: shared where the bytes are the same, named after the board where they differ."""
    name, content = built.files[role]
    stem, dot, ending = name.rpartition(".")
    for candidate in (name, f"{stem}.{board}{dot}{ending}"):
        member = f"payloads/{built.engine}/{candidate}"
        if files.setdefault(member, content) == content:
            return member
    raise AssertionError("two payloads of one board have the same file name")
