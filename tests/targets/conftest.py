"""Where the zoo is, and small models."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
import pytest
from onnx import parser


@pytest.fixture(scope="session")
def parse() -> Callable[..., ir.Model]:
    """`parse(graph text, opset=21, domains="")`: a model from onnx's text format."""

    def build(text: str, *, opset: int = 21, domains: str = "") -> ir.Model:
        proto: onnx.ModelProto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{domains}]>\n{text}')
        return ir.from_proto(proto)

    return build
