"""What weight-only quantization made of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from edgec.data.metrics import reported_db
from edgec.quantize.weights.groups import Format


@dataclass(frozen=True)
class Row:
    """One weight or table.

    Attributes:
        name: of the float constant.
        kind: operator that reads it.
        format: of its integers.
        fitted: whether data decided the integers; else they are the nearest.
        bytes_before: of the float constant.
        bytes_after: about, of integers, scales and nodes.
        noise: that it alone made of the outputs in its smallest format, relative to their energy; None: not measured.
    """

    name: str
    kind: str
    format: Format
    fitted: bool
    bytes_before: int
    bytes_after: int
    noise: float | None


@dataclass(frozen=True)
class WeightsQuantized:
    """A model with integer weights and how it came about.

    Attributes:
        model: with integer weights.
        layers: one row a weight.
        skipped: constants that stay float, and why.
        bytes_before: of the model file, without the exporter's notes.
        bytes_after: of the new one.
        nearest_db: SQNR of the outputs on held-out samples with all weights rounded to nearest; None without data.
        fitted_db: the same with the fitted ones, kept only where better.
        sqnr_db: of the model as written, by onnxruntime on this machine.
    """

    model: ir.Model
    layers: tuple[Row, ...]
    skipped: dict[str, str]
    bytes_before: int
    bytes_after: int
    nearest_db: float | None
    fitted_db: float | None
    sqnr_db: float | None

    @property
    def fitted(self) -> bool:
        """Whether data decided any integers."""
        return any(row.fitted for row in self.layers)

    def report(self) -> dict[str, Any]:
        """Plain data for report.json and `--json`."""
        numbers = {"nearest": self.nearest_db, "fitted": self.fitted_db, "written": self.sqnr_db}
        return {
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "fitted": self.fitted,
            "sqnr_db": {k: None if v is None else reported_db(v) for k, v in numbers.items()},
            "skipped": dict(self.skipped),
            "layers": [
                {
                    "name": row.name,
                    "kind": row.kind,
                    "format": row.format.name(),
                    "fitted": row.fitted,
                    "bytes_before": row.bytes_before,
                    "bytes_after": row.bytes_after,
                    "noise": row.noise,
                }
                for row in self.layers
            ],
        }
