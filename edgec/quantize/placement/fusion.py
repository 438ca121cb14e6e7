"""What onnxruntime really made of the Q/DQ pairs: integer operators, or float ones with conversions around them."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgec.quantize import layers
from edgec.quantize.session import Session

_INTEGER_WITHOUT_PREFIX = frozenset(
    {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger", "ConvInteger", "QGemm"}
)


@dataclass(frozen=True)
class FusionReport:
    """Counts from the optimized graph.

    Attributes:
        integer: integer operators by type.
        float_layers: names of weighted layers (Conv, Gemm, MatMul …) that still run in float.
        unfused: names of those that run in float between Q and DQ: slower than if they had been left alone.
        quantize: QuantizeLinear nodes left: conversions at run time.
        dequantize: DequantizeLinear nodes left.
        nodes: nodes in all.
    """

    integer: dict[str, int]
    float_layers: tuple[str, ...]
    unfused: tuple[str, ...]
    quantize: int
    dequantize: int
    nodes: int

    def as_dict(self) -> dict[str, Any]:
        """For the report and `--json`."""
        return asdict(self)


def fusion_report(model: ir.Model) -> FusionReport:
    """Load the model with onnxruntime's full optimization on this machine and look at the result."""
    with tempfile.TemporaryDirectory(prefix="edgec-") as folder:
        path = Path(folder) / "optimized.onnx"
        Session(model, threads=1, save_optimized=path)
        optimized = ir.load(path)
        counts = Counter(node.op_type for node in optimized.graph)
        floats, unfused = [], []
        for node in optimized.graph:
            if node.op_type in layers.WEIGHTED | {"FusedConv", "FusedGemm", "FusedMatMul"}:
                name = str(node.name or node.outputs[0].name)
                floats.append(name)
                sources = [v.producer() for v in node.inputs if v is not None]
                if any(p is not None and p.op_type == "DequantizeLinear" for p in sources[1:]):
                    unfused.append(name)
        integer = {k: n for k, n in sorted(counts.items()) if k.startswith("QLinear") or k in _INTEGER_WITHOUT_PREFIX}
        return FusionReport(
            integer=integer,
            float_layers=tuple(floats),
            unfused=tuple(unfused),
            quantize=counts["QuantizeLinear"],
            dequantize=counts["DequantizeLinear"],
            nodes=sum(counts.values()),
        )
