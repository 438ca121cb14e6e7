"""The engines' aarch64 wheels, pinned by hash (wheels.txt), each unpacked into a folder of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from edgec_runtime.errors import MissingError

PINS = Path(__file__).with_name("wheels.txt")
PYTHON = "3.11"
"""The guest's Python: that of Debian 12."""

_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def names() -> tuple[str, ...]:
    """The distributions that are pinned."""
    return tuple(line.partition("==")[0] for line in PINS.read_text().splitlines() if "==" in line)


def unpack(folder: Path) -> tuple[str, ...]:
    """Download the pinned wheels and unpack them into `folder`/<distribution>; returns the files' names.

    Raises MissingError (exit 10) where pip or the network is missing, or a wheel is not the pinned one.
    """
    downloads = folder / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    # fmt: off
    command = [
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes",
        "--python-version", PYTHON, "--implementation", "cp", *(f"--platform={name}" for name in _PLATFORMS),
        "-d", str(downloads), "-r", str(PINS),
    ]
    # fmt: on
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise MissingError(
            "the engines' aarch64 wheels can't be downloaded", " ".join(" ".join(errors).split())[-300:],
            "Check that pip reaches its registry, then run it again: what is there already is kept.", code="E1032",
        )  # fmt: skip
    found = {}
    for wheel in sorted(downloads.glob("*.whl")):
        name = wheel.name.partition("-")[0].replace("_", "-").lower()
        if name in names():
            found[name] = wheel
            _extract(wheel, folder / name)
    return tuple(wheel.name for wheel in found.values())


def _extract(wheel: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(part)
    part.rename(target)
