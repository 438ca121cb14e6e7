"""`edgec` as tests/command.py calls it, and one small bundle that all of these tests share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import parser

from tests import command
from tests.command import Said


@pytest.fixture
def edgec() -> Callable[..., Said]:
    return command.edgec


@dataclass(frozen=True)
class Made:
    """A model of one product, an input for it, and its bundle for `host`, signed by the key that its folder holds."""

    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "small.onnx"

    @property
    def bundle(self) -> Path:
        return self.folder / "small.edge"

    @property
    def input(self) -> Path:
        return self.folder / "x.npz"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Made:
    from edgec.compiler import compile

    made = Made(tmp_path_factory.mktemp("cli"))
    text = """<ir_version: 10, opset_import: ["" : 17]> small (float[1,4] x) => (float[1,3] y)
        <float[4,3] w = {1,2,3, 4,5,6, 7,8,9, 10,11,12}, float[3] b = {0.5, 0, -0.5}>
        { [product] h = MatMul(x, w) [sum] s = Add(h, b) [rectified] y = Relu(s) }"""
    made.model.write_bytes(parser.parse_model(text).SerializeToString())
    np.savez(made.input, x=np.array([[1, 0, -1, 2]], np.float32))
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("CONFIG", "ROOT", "CACHE"):
            patch.setenv(f"EDGEC_{variable}", str(made.folder / variable.lower()))
        compile(str(made.model), ["host"], output=made.bundle)
    return made


@pytest.fixture
def small(compiled: Made, own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """The bundle, in a process that trusts its key."""
    for variable in ("CONFIG", "ROOT"):
        monkeypatch.setenv(f"EDGEC_{variable}", str(compiled.folder / variable.lower()))
    return compiled
