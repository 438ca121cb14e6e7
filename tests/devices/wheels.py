"""Small device wheels for this machine: real but for the engine's library."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgec_runtime import elf
from edgec_toolchains import wheelhouse
from edgec_toolchains.wheelhouse import fetch, runtime_files, wheel
from tests.runtime import elf_files

MACHINES = {"x86_64": 62, "aarch64": 183}


def broken(folder: Path, text: bytes = b"", *, small: bool = False) -> Path:
    """A wheel whose library is an ELF file that no loader takes; `text` makes another version of it.

    A small one has three of the runtime's files.
    """
    data = elf_files.library(MACHINES.get(os.uname().machine, 62), versions={"libc.so.6": ("GLIBC_2.17",)}) + text
    return _write(folder, data, small)


def real(folder: Path) -> Path | None:
    """A wheel with the LiteRT library of this environment; None where it has none."""
    pin = wheelhouse.pin("litert", os.uname().machine)
    spec = importlib.util.find_spec("ai_edge_litert")
    path = Path(spec.submodule_search_locations[0]) / "libLiteRt.so" if spec else None
    return _write(folder, path.read_bytes()) if path and path.is_file() and pin else None


def _write(folder: Path, data: bytes, small: bool = False) -> Path:
    pin = wheelhouse.pin("litert", os.uname().machine)
    source = fetch.EngineLibrary(pin, "libLiteRt.so", data, {"LICENSE": b"text"}, elf.read(data))
    runtime = runtime_files.installed()
    if small:
        names = ("__init__.py", "__main__.py", "cli/main.py")
        runtime = replace(runtime, files={f"edgec_runtime/{n}": runtime.files[f"edgec_runtime/{n}"] for n in names})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wheel, "LEVEL", 1)  # packing tightly takes seconds
        made = wheel.build(runtime, source)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / made.name).write_bytes(made.data)
    return folder / made.name
