"""The compiler in a process of its own: TVM may crash or hang, and a compile must not with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from edgec_runtime.errors import MissingError
from edgec_targets.emitters.tvm.cpu import Cpu
from edgec_targets.types import Problem

SECONDS = 900
"""A child's whole life, against a compiler that hangs: the zoo's models take 10 to 60 seconds on a quiet core."""
_FIX = "Use the onnxruntime payload."


@dataclass(frozen=True)
class Compiled:
    """`tiles`: nest -> tile, as they were chosen; `chosen_by` "measured", "counted", "computed" or "given". `plain`:
    kernels whose schedule did not fit, which run as TVM's plain loops.
    """

    library: bytes
    tiles: Mapping[str, str]
    chosen_by: str
    plain: tuple[str, ...] = ()


def compile(
    model: bytes,
    names: tuple[list[str], list[str]],
    cpu: Cpu,
    *,
    parallel: bool,
    search: str,
    tiles: Mapping[str, str],
    core: str = "",
) -> Compiled | Problem:
    """Compile a prepared ONNX model; a problem where it can't be.

    Args:
        model: an ONNX file that `prepare` made.
        names: of the inputs and outputs, in order.
        cpu: for what.
        parallel: whether large kernels are spread to threads.
        search: "measured" on this machine, "counted" on an emulated core, or "computed".
        tiles: choices that are made already, nest -> tile.
        core: the emulated core to count on.

    Raises MissingError (E1041, exit 10) where apache-tvm or ziglang isn't installed.
    """
    missing = [package for package in ("tvm", "ziglang", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise MissingError(
            "no tvm payload: its compiler isn't installed", f"{' and '.join(missing)} can't be imported",
            "Install it: pip install 'edgec[tvm]'", code="E1041",
        )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgec-tvm-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model)
        job = {
            "names": names, "cpu": asdict(cpu), "parallel": parallel, "search": search, "tiles": dict(tiles),
            "core": core,
        }  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        return _run(folder)


def _run(folder: Path) -> Compiled | Problem:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "edgec_targets.emitters.tvm.worker", str(folder)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Problem("", "", f"TVM takes more than {SECONDS} seconds for it.", _FIX)
    answer = folder / "answer.json"
    if done.returncode or not answer.is_file():
        tail = " ".join(done.stderr.split())[-300:]
        return Problem("", "", f"TVM's process ends with status {done.returncode}: {tail}", _FIX)
    said = json.loads(answer.read_text())
    if said["refused"]:
        return Problem(said["refused"]["node"], said["refused"]["operator"], said["refused"]["why"], _FIX)
    return Compiled((folder / "model.so").read_bytes(), said["tiles"], said["chosen_by"], tuple(said["plain"]))
