"""The quantized files: kept under build/peers/out with what they cost, made again when what they depend on changes.

A peer's file depends on the versions in its environment, its recipe's code and the data; ours on the sources of
edgec/quantize, edgec/passes and edgec/data besides. A recipe that fails is kept with its error, for the same key.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.quantization.environments import PEERS, ROOT, Environment
from benchmarks.quantization.recipe import Case, Recipe

OUT = PEERS / "out"
WALL_S, CPU_S, DATA_BYTES = 3600, 600, 14 << 30
"""What one quantization may take: seconds, CPU seconds, memory that is its own."""
OURS = ("edgec/quantize", "edgec/passes", "edgec/data")


@dataclass(frozen=True)
class Made:
    """A quantized file, or why there is none.

    Attributes:
        key: digest of what it depends on.
        file: its path; empty where `error` says why.
        bytes: its size, an OpenVINO model's weights included.
        cpu_s: CPU seconds of the process that made it, imports included.
        peak_mib: most resident memory of that process.
        error: what went wrong.
    """

    key: str
    file: str = ""
    bytes: int = 0
    cpu_s: float = 0.0
    peak_mib: int = 0
    error: str = ""


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def sources() -> str:
    """Digest of our own quantizer."""
    paths = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def key_of(recipe: Recipe, peer: str, packages: dict[str, str], case_digest: str) -> str:
    parts = [recipe.code(), json.dumps(packages, sort_keys=True), case_digest, sources() if peer == "edgec" else ""]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def kept(case: Case, peer: str, recipe: Recipe) -> Path:
    return OUT / case.name / f"{peer}-{slug(recipe.name)}.json"


def made(
    case: Case,
    peer: str,
    recipe: Recipe,
    environment: Environment | None,
    case_digest: str,
    *,
    fresh: bool = False,
    said: Callable[[str], None] = print,
) -> Made:
    """The file of a recipe, made where it is missing or what it depends on changed."""
    packages = {p: version(p) for p in record.PACKAGES} if environment is None else environment.packages
    key, record_file = key_of(recipe, peer, packages, case_digest), kept(case, peer, recipe)
    if record_file.exists() and not fresh:
        before = Made(**json.loads(record_file.read_text()))
        if before.key == key and (before.error or Path(before.file).exists()):
            return before
    said(f"  {case.name}: quantizing: {peer}, {recipe.name}")
    record_file.parent.mkdir(parents=True, exist_ok=True)
    out = record_file.with_suffix(recipe.suffix)
    python = sys.executable if environment is None else environment.python
    result = _quantize(python, peer, recipe, case, out, key)
    record_file.write_text(json.dumps(asdict(result)))
    said(
        f"  {case.name}: {result.error or f'{result.bytes / 1e6:.2f} MB, {result.cpu_s} CPU s, {result.peak_mib} MiB'}"
    )
    return result


def _limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))


def _quantize(python: str, peer: str, recipe: Recipe, case: Case, out: Path, key: str) -> Made:
    command = [python, "-m", "benchmarks.quantization.make", peer, recipe.name, str(case.folder), str(out)]
    environment = record.compiled_python() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    log = out.with_suffix(".log")
    for leftover in (out, out.with_suffix(".bin"), out.with_suffix(".u8.onnx")):
        leftover.unlink(missing_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True, preexec_fn=_limits
        )
        try:
            process.wait(WALL_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return Made(key, error=f"took more than {WALL_S // 60} minutes")
    text = log.read_text(errors="replace")
    if process.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return Made(key, error=f"took more than {CPU_S // 60} CPU minutes, or was killed")
    if process.returncode:
        return Made(key, error=said_last(text) if process.returncode > 0 else f"died of signal {-process.returncode}")
    cost: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
    total = out.stat().st_size
    if out.suffix == ".xml":
        total += out.with_suffix(".bin").stat().st_size
    return Made(key, str(out), total, cost["cpu_s"], cost["peak_mib"])


def said_last(text: str) -> str:
    """The exception's line of a log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Fail|NotImplemented|InvalidGraph)\b.*", line)]
    return re.sub(r"\x1b\[[0-9;]*m", "", (named or lines or ["no message"])[-1])[:250]


def exact(case: Case, file: str) -> str:
    """int8 activations with zero point 0 as uint8 with zero point 128, the same numbers: beside the file."""
    target = Path(file).with_suffix(".u8.onnx")
    if not target.exists() or target.stat().st_mtime < Path(file).stat().st_mtime:
        from edgec import frontends
        from edgec.quantize.symmetric import symmetric_to_u8

        target.write_bytes(frontends.save_bytes(symmetric_to_u8(frontends.load(file).model)))
    return str(target)
