"""What every front end gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir


@dataclass(frozen=True)
class Imported:
    """A model as edgec works on it, and what is known of its source.

    Attributes:
        model: default opset ≥ 21 where a conversion exists; functions inlined, Constant nodes lifted to
            initializers, names kept, every node named, shapes inferred.
        format: the source's format ("onnx").
        sha256: of the source file; with external data, of all its files (see `edgec.frontends.onnx.read.digest`).
        size: bytes of the source file(s).
        opset: the default domain's opset as the source had it; 0 when it imports none.
        ir_version: as the source had it.
        notes: what was repaired or converted, a sentence each.
        original: something ONNX Runtime can load: the float model as the user gave it, with `shapes` applied.
            A path when nothing had to be changed or the weights are external (then the shapes stay symbolic
            in that file; it takes the same feeds), else bytes.
    """

    model: ir.Model
    format: str
    sha256: str
    size: int
    opset: int
    ir_version: int
    notes: tuple[str, ...]
    original: bytes | Path
