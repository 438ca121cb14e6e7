"""Find QEMU's user-mode emulator, or unpack Debian's package of it, and run a model under it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgec_runtime.errors import MissingError, UnsupportedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VARIABLE = "EDGEC_QEMU_X86_64"
"""Environment variable that names the emulator."""

_NAMES = ("qemu-x86_64-static", "qemu-x86_64")
_VNNI = {"avx512_vnni", "avx_vnni", "avx512f"}


@dataclass(frozen=True)
class Answers:
    """What a model gave on the emulated CPU: one list of outputs a feed, the CPU's features, the engine's version."""

    answers: list[list[NDArray[Any]]]
    isa: tuple[str, ...]
    onnxruntime: str


def find() -> Path | None:
    """The emulator that `EDGEC_QEMU_X86_64` names, or that PATH has; None without one.

    Raises MissingError (exit 10) where the variable names no file.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not Path(named).is_file():
            raise MissingError(
                f"{VARIABLE} names no file: {named}", "", "Give the path of qemu-x86_64-static.", code="E1030"
            )
        return Path(named)
    found = next((path for name in _NAMES if (path := shutil.which(name))), None)
    return Path(found) if found else None


def fetch(folder: Path) -> Path:
    """Unpack Debian's or Ubuntu's qemu-user-static into `folder` (63 MB to download); nothing is installed.

    Raises MissingError (exit 10) where apt or the package is not there.
    """
    emulator = folder / "usr" / "bin" / _NAMES[0]
    if emulator.is_file():
        return emulator
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            subprocess.run(
                ["apt-get", "download", "qemu-user-static"], cwd=work, check=True, capture_output=True, text=True
            )
            (package,) = Path(work).glob("qemu-user-static*.deb")
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError, ValueError) as e:
        why = getattr(e, "stderr", "") or str(e)
        raise MissingError(
            "qemu-user-static can't be unpacked", " ".join(str(why).split())[:300],
            f"Install qemu-user-static, or set {VARIABLE} to qemu-x86_64-static.", code="E1030",
        ) from e  # fmt: skip
    return emulator


def version(emulator: Path) -> str:
    """The emulator's version, as "7.2.22"."""
    words = subprocess.run([emulator, "--version"], check=True, capture_output=True, text=True).stdout.split()
    return words[words.index("version") + 1] if "version" in words else "unknown"


def run(emulator: Path, model: bytes, feeds: Sequence[Mapping[str, NDArray[Any]]], *, timeout: float = 600) -> Answers:
    """Run a model on `feeds` by this Python's onnxruntime on an emulated CPU with AVX2 and without VNNI.

    Args:
        emulator: from `find` or `fetch`.
        model: ONNX bytes.
        feeds: input name -> array.
        timeout: seconds; EfficientNet-Lite0 takes about one an image.

    Raises UnsupportedError (exit 4) where this is no x86-64 machine, or the emulated CPU is not what it should be.
    """
    import numpy as np

    if platform.machine() != "x86_64":
        raise UnsupportedError("this machine's Python can't run as x86-64", f"it is built for {platform.machine()}")
    with tempfile.TemporaryDirectory(prefix="edgec-") as name:
        folder = Path(name)
        (folder / "model.onnx").write_bytes(model)
        for i, feed in enumerate(feeds):
            arrays: dict[str, Any] = dict(feed)
            np.savez(folder / f"in-{i:06d}.npz", **arrays)
        worker = Path(__file__).with_name("worker.py")
        paths = os.pathsep.join(p for p in sys.path if p)
        command: list[str | Path] = [emulator, "-cpu", "max", sys.executable, worker, folder]
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as e:
            raise UnsupportedError(f"the emulated CPU took more than {timeout:.0f} s", "", "Use fewer inputs.") from e
        if done.returncode:
            words = " ".join(done.stderr.split())[-300:]
            raise UnsupportedError(
                "the model does not run on the emulated CPU", words, f"{emulator} must be QEMU ≥ 7.2"
            )
        cpu = json.loads((folder / "cpu.json").read_text())
        isa = tuple(cpu["isa"])
        if "avx2" not in isa or _VNNI & set(isa):
            raise UnsupportedError(
                "the emulated CPU is not one with AVX2 and without VNNI", f"it has {', '.join(isa)}", "Use QEMU ≥ 7.2."
            )
        answers = []
        for i in range(len(feeds)):
            with np.load(folder / f"out-{i:06d}.npz", allow_pickle=False) as outputs:
                answers.append([outputs[str(n)] for n in range(len(outputs.files))])
    return Answers(answers, isa, str(cpu["onnxruntime"]))
