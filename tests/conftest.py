"""What every test may use: the zoo and the registry's models where they are, folders of its own always."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys and the device root are never the user's own."""
    folder = tmp_path_factory.mktemp("edgec")
    monkeypatch.setenv("EDGEC_CONFIG", str(folder / "config"))
    monkeypatch.setenv("EDGEC_ROOT", str(folder / "root"))
    monkeypatch.setenv("EDGEC_CACHE", str(folder / "cache"))
    return folder


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Path]:
    """`zoo("resnet8_cifar10")` is a case's folder; the test is skipped where the zoo is absent."""
    root = Path(os.environ.get("EDGEC_ZOO", ROOT.parent / "shared" / "zoo"))

    def case(name: str) -> Path:
        if not (root / name / "model.onnx").is_file():
            pytest.skip(f"no zoo at {root} (set EDGEC_ZOO)")
        return root / name

    return case


@pytest.fixture(scope="session")
def pip_model() -> Callable[[str], Path]:
    """`pip_model("magika/models/standard_v3_3/model.onnx")`; skipped before `make models`."""

    def file(name: str) -> Path:
        path = ROOT / "build" / "models" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there: make models")
        return path

    return file
