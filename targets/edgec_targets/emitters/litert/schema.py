"""The TFLite schema, which the `ai-edge-litert` package brings; asked for only when a payload is written."""

from __future__ import annotations

import importlib
from types import ModuleType

from edgec_runtime.errors import MissingError


def schema() -> ModuleType:
    """`ai_edge_litert.schema_py_generated`: classes made by flatc from TFLite's schema.fbs.

    Raises MissingError (E1040, exit 10) without the package.
    """
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError as e:
        raise MissingError(
            "LiteRT payloads need the package ai-edge-litert",
            f"It brings the file format's schema and the engine that proves the payload ({e}).",
            "Install edgec with its extra: pip install 'edgec[litert]'.",
            code="E1040",
        ) from e
