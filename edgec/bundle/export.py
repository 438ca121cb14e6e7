"""A bundle as an ONNX Runtime model package: a folder that `onnxruntime.ModelPackageContext` opens.

The layout is that of the `model_package` library in ONNX Runtime 1.32, schema version 1.0 (portable):

    manifest.json                            name, version, components
    models/<name>/component.json             its variants, in order of preference, each with its execution provider
    models/<name>/<payload id>/...           the files; executor_info "ort" names the model file and session options

Sources: microsoft/onnxruntime, model_package/README.md (layout, portable paths) and
onnxruntime/core/session/model_package/README.md (executor_info "ort", "manifest declaration order breaks ties").
A package has no signature: every member's hash is checked here, and the bundle's identity is recorded in it, but
from then on nothing protects its bytes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgec.bundle import atomic, seal
from edgec.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from edgec_runtime.bundle import Bundle

SCHEMA_VERSION = "1.0"
CHUNK = 1 << 20


def export(bundle: Bundle, destination: str | os.PathLike[str]) -> dict[str, Any]:
    """Write an open bundle's ONNX Runtime payloads as a model package at `destination`, a folder that must be new.

    Returns {"package": path, "component": name, "variants": [payload ids], "left_out": {payload id: why}}. Raises
    UnsupportedError where no payload is for ONNX Runtime, UsageError where the folder is taken, TrustError where a
    member is damaged, BadInputError where the disk is full; nothing is left behind then.
    """
    folder = Path(destination)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise UsageError(
            f"{folder} is there already", "A package is written whole, into a new folder.", "Name another."
        )
    seal.refuse(bundle.manifest, "exported")
    payloads = [p for p in bundle.manifest["payloads"] if p["engine"] == "onnxruntime"]
    left_out = {p["id"]: f"is for {p['engine']}" for p in bundle.manifest["payloads"] if p["engine"] != "onnxruntime"}
    if not payloads:
        raise UnsupportedError(
            "The bundle has no payload for ONNX Runtime",
            "A model package holds what ONNX Runtime loads: .onnx and .ort files.",
            "Compile for a board whose engine is onnxruntime.",
            code="E410",
        )
    name = _plain(bundle.manifest["app"]["name"])
    bundle.verify_all()
    with atomic.new_folder(folder) as temporary:
        variants: dict[str, Any] = {}
        for payload in payloads:
            variant = _unique(_plain(payload["id"]), variants)
            root = temporary / "models" / name / variant
            files = _place(payload["files"])
            for member, relative in files.items():
                _extract(bundle, member, root / relative)
            variants[variant] = _variant(payload, variant, files)
        _write_json(temporary / "models" / name / "component.json", {"component_name": name, "variants": variants})
        _write_json(temporary / "manifest.json", _manifest(bundle, name))
    return {"package": str(folder), "component": name, "variants": list(variants), "left_out": left_out}


def _manifest(bundle: Bundle, name: str) -> dict[str, Any]:
    app = bundle.manifest["app"]
    return {
        "schema_version": SCHEMA_VERSION,
        "package_name": app["name"],
        "package_version": app["version"],
        "description": f"Exported from an edgec bundle for {', '.join(bundle.manifest['compiled_for'])}.",
        "layout": "portable",
        "components": {name: f"models/{name}"},
        "additional_metadata": {"edgec": {"identity": bundle.identity}},
    }


def _variant(payload: Mapping[str, Any], directory: str, files: Mapping[str, str]) -> dict[str, Any]:
    about = ("board", "arch", "isa", "precision", "opset", "engine_version", "proven_with", "accuracy")
    ort: dict[str, Any] = {"model_file": files[payload["files"]["model"]]}
    if settings := _session_options(payload["options"]):
        ort["session_options"] = settings
    return {
        "variant_directory": directory,
        "ep": "CPUExecutionProvider",
        "device": "cpu",
        "executor_info": {"ort": ort},
        "additional_metadata": {"edgec": {k: payload[k] for k in about}},
    }


def _session_options(options: Mapping[str, Any]) -> dict[str, str]:
    """The settings that a package can carry, as text (the arena is not one).

    `session.intra_op_num_threads` is what ONNX Runtime 1.32 obeys; its README names another key, which does nothing.
    """
    entries = {}
    if options.get("threads") is not None:
        entries["session.intra_op_num_threads"] = str(options["threads"])
    if options.get("spinning") is not None:
        entries["session.intra_op.allow_spinning"] = str(int(options["spinning"]))
    return entries


def _place(files: Mapping[str, str]) -> dict[str, str]:
    """Member -> path in the variant's folder: relative to the model's own, since external data is named from there."""
    model = PurePosixPath(files["model"])
    placed = {}
    for member in files.values():
        path = PurePosixPath(member)
        inside = path.is_relative_to(model.parent)
        placed[member] = str(path.relative_to(model.parent)) if inside else path.name
    return placed


def _extract(bundle: Bundle, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    view = bundle.member(member)
    with path.open("xb") as file:  # never over another file, never through a link
        for start in range(0, len(view), CHUNK):
            file.write(view[start : start + CHUNK])


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _plain(name: str) -> str:
    """A name as one harmless path component."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).strip(".") or "model"


def _unique(name: str, taken: Mapping[str, Any]) -> str:
    number, candidate = 1, name
    while candidate.casefold() in {t.casefold() for t in taken}:
        number += 1
        candidate = f"{name}-{number}"
    return candidate
