"""Where the zoo is, and small models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from onnx import parser


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Path]:
    """`zoo("resnet8_cifar10")` is a case's folder; the test is skipped where the zoo is absent."""
    root = Path(os.environ.get("EDGEC_ZOO", Path(__file__).parents[3] / "shared" / "zoo"))

    def case(name: str) -> Path:
        if not (root / name / "model.onnx").is_file():
            pytest.skip(f"no zoo at {root} (set EDGEC_ZOO)")
        return root / name

    return case


@pytest.fixture(scope="session")
def parse() -> Callable[..., ir.Model]:
    """`parse(graph text, opset=21, domains="")`: a model from onnx's text format."""

    def build(text: str, *, opset: int = 21, domains: str = "") -> ir.Model:
        proto: onnx.ModelProto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{domains}]>\n{text}')
        return ir.from_proto(proto)

    return build
