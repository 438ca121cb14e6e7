"""The README's way onto a board, verbatim: its commands, one after the other, in a shell of a user of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgec_toolchains.boards import virtual
from tests.board.conftest import ROOT
from tests.packaging.readme import commands, session


@pytest.mark.timeout(600)
def test_the_readmes_commands(image: virtual.Image, tmp_path: Path, pip_model: object) -> None:
    pip_model("magika/models/standard_v3_3/model.onnx")  # type: ignore[operator]
    for name in ("build", "examples", "Makefile"):
        (tmp_path / name).symlink_to(ROOT / name)
    lines = commands((ROOT / "README.md").read_text(encoding="utf-8"), board=True)
    assert lines[0] == "edgec devices virtual" and lines[-1] == "edgec devices virtual stop"
    home = tmp_path / "home"
    (home / ".cache" / "edgec").mkdir(parents=True)
    (ROOT / "build" / "wheelhouse").mkdir(parents=True, exist_ok=True)
    (home / ".cache" / "edgec" / "wheelhouse").symlink_to(ROOT / "build" / "wheelhouse")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("EDGEC_", "XDG_"))}
    environment |= {
        "HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EDGEC_BOARDS": os.environ.get("EDGEC_BOARDS") or str(ROOT / "build" / "boards"),
    }  # fmt: skip
    script = session(["python examples/file_type/features.py Makefile makefile.npz", *lines])
    try:
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-c", script],
            cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=580,
        )  # fmt: skip
    finally:  # where a command failed it is on still
        off = ["edgec", "devices", "virtual", "stop", "--power-cut"]
        subprocess.run(off, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout[-8000:]
    assert "passed its trial and runs" in done.stdout and "virtual lost its power" in done.stdout
