"""The wheels and the environments they are installed into: made once for all of pytest-xdist's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.packaging.environments import Environment, once

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """`shared(name, make)`: a folder of this test run that all its processes see, filled once."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    return lambda name, make: once(base / "packaging" / name, make)


@pytest.fixture(scope="session")
def wheels(shared: Callable[[str, Callable[[Path], None]], Path]) -> dict[str, Path]:
    """The wheel of each distribution by name, built from its source distribution, as a release would be."""

    def make(folder: Path) -> None:
        for source in (ROOT, ROOT / "runtime"):
            command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
            done = subprocess.run([*map(str, command)], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr

    folder = shared("wheels", make)
    return {name: next(folder.glob(f"{name.replace('-', '_')}-*.whl")) for name in ("edgec", "edgec-runtime")}


@pytest.fixture(scope="session")
def host(wheels: dict[str, Path], shared: Callable[[str, Callable[[Path], None]], Path]) -> Environment:
    """A developer's machine: both wheels."""
    return Environment(shared("host", lambda folder: Environment(folder).create(wheels.values())))


@pytest.fixture(scope="session")
def device(wheels: dict[str, Path], shared: Callable[[str, Callable[[Path], None]], Path]) -> Environment:
    """A board: edgec-runtime with its onnxruntime extra."""
    runtime = [wheels["edgec-runtime"]]
    return Environment(shared("device", lambda folder: Environment(folder).create(runtime, ["onnxruntime"])))
