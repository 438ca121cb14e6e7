"""The probes as files: float32 and int8, for ONNX Runtime and for LiteRT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks import kernel_probes
from edgec import frontends, passes, quantize
from edgec.data import Dataset
from edgec.errors import Error


@dataclass(frozen=True)
class Probe:
    """One file; `engine` runs it."""

    name: str
    precision: str
    engine: str
    path: Path


def write(folder: Path, *, wanted: str = "") -> list[Probe]:
    """Every probe whose name contains `wanted`, in each form that can be made."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Probe] = []
    for name, net in kernel_probes.nets():
        if wanted not in name:
            continue
        model = frontends.load(net.model().SerializeToString()).model
        passes.run(model)
        forms = {"float32": model}
        feed = {"x": np.random.default_rng(1).uniform(-2, 2, net.shape).astype(np.float32)}
        try:
            data = Dataset.of([feed] * 2, model.graph.inputs)
            forms["int8"] = quantize.quantize_with_data(model, data, effort="plain", arch="").model
        except Error:
            pass  # nothing in it has integers
        for precision, form in forms.items():
            found += _forms(name, precision, form, folder / f"{slug(name)}-{precision}")
    return found


def slug(name: str) -> str:
    """A probe's name as a file's."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", name)


def _forms(name: str, precision: str, form: ir.Model, stem: Path) -> list[Probe]:
    from edgec_targets.emitters.litert.conversion import convert

    made: dict[str, tuple[str, Any]] = {"onnxruntime": (".onnx", frontends.save_bytes(form))}
    written = convert(ir.serde.deserialize_model(ir.serde.serialize_model(form)))
    if written.data is not None:
        made["litert"] = (".tflite", written.data)
    probes = []
    for engine, (ending, data) in made.items():
        path = stem.with_name(stem.name + ending)
        path.write_bytes(data)
        probes.append(Probe(name, precision, engine, path))
    return probes
