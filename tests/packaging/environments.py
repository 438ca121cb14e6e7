"""Environments for the packaging tests: empty ones, into which go a wheel and what its metadata requires, no more.

Downloading numpy, onnx and ONNX Runtime for each test would take minutes. So an environment gets links to the
distributions that the running one has, and only to those that the wheel's own Requires-Dist reach: a dependency that
the code uses but pyproject.toml forgot is missing there, as it is for a user.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import PathDistribution, distribution
from pathlib import Path
from zipfile import Path as ZipPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = {"edgec", "edgec-runtime"}  # these come from the wheels, never from the running environment


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by `make` in the first of pytest-xdist's processes that asks; the others wait for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = Path(f"{folder}.done")
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def clean(home: Path, **more: str) -> dict[str, str]:
    """The variables of a fresh login: nothing that leads to this checkout, keys and device root under `home`."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "EDGEC_CONFIG": str(home / "config"),
        "EDGEC_ROOT": str(home / "root"),
        "OPENBLAS_NUM_THREADS": "1",  # as in tests/conftest.py
        **more,
    }


def run(
    *command: str | Path, cwd: Path, env: dict[str, str], code: int = 0, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run it; fails with everything it printed where the exit code is another than `code`."""
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
    said = f"{' '.join(map(str, command))}\nexit {done.returncode}, not {code}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == code, said
    return done


def metadata(wheel: Path) -> PathDistribution:
    """A wheel's metadata, without installing it."""
    (folder,) = [entry for entry in ZipPath(wheel).iterdir() if entry.name.endswith(".dist-info")]
    return PathDistribution(folder)  # type: ignore[arg-type]


def required(requires: Iterable[str] | None, extras: Iterable[str] = ()) -> set[str]:
    """Names of the distributions that these Requires-Dist lines reach in this environment, over any number of steps."""
    found: set[str] = set()
    waiting = [(line, tuple(extras)) for line in requires or ()]
    while waiting:
        line, wanted = waiting.pop()
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": e}) for e in ("", *wanted)):
            continue
        if name in found or name in OWN:
            continue
        found.add(name)
        waiting += [(below, tuple(requirement.extras)) for below in distribution(name).requires or ()]
    return found


def link(names: Iterable[str], folder: Path) -> None:
    """Fill `folder` with links to everything that the named distributions installed here as importable."""
    folder.mkdir(exist_ok=True)
    for name in sorted(names):
        installed = distribution(name)
        assert installed.files, f"{name} has no record of its files"
        for top in {file.parts[0] for file in installed.files} - {"..", "__pycache__"}:
            target = folder / top
            if not target.is_symlink():
                target.symlink_to(Path(str(installed.locate_file(top))))


class Environment:
    """An empty virtual environment at `folder` and what was put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"

    def create(self, wheels: Iterable[Path], extras: Iterable[str] = (), python: str = sys.executable) -> Environment:
        """Install the wheels, and link what they require together with their `extras`."""
        wheels = list(wheels)
        own = python == sys.executable  # else that Python's own pip: ours may be too new for it
        subprocess.run([python, "-m", "venv", *(["--without-pip"] if own else []), self.folder], check=True)
        pip = [python, "-m", "pip", "--python", self.bin / "python"] if own else [self.bin / "python", "-m", "pip"]
        subprocess.run([*map(str, pip), "install", "-q", "--no-deps", "--no-index", *map(str, wheels)], check=True)
        names = set().union(*(required(metadata(wheel).requires, extras) for wheel in wheels))
        if names:
            dependencies = self.folder / "dependencies"
            link(names, dependencies)
            (packages,) = self.folder.glob("lib/python*/site-packages")
            (packages / "dependencies.pth").write_text(f"{dependencies}\n")
        return self
