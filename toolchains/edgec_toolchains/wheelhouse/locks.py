"""The engines that a device wheel may hold, each pinned to one file of the registry by its hash (engines.toml)."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgec_runtime.errors import MissingError

ENGINES = Path(__file__).with_name("engines.toml")
ARCHITECTURES = ("aarch64", "x86_64")


@dataclass(frozen=True)
class Pin:
    """One wheel of an engine.

    Attributes:
        engine: as manifests name it ("litert").
        arch: as `platform.machine()` says.
        distribution, version, python, platform: what pip is asked for.
        sha256: of the wheel, in hex.
        library: the member that is the engine's shared library.
        licenses: members that are its licence's text and notices.
        license: the same as an SPDX expression.
        glibc: the oldest glibc whose systems can load the library.
    """

    engine: str
    arch: str
    distribution: str
    version: str
    python: str
    platform: str
    sha256: str
    library: str
    licenses: tuple[str, ...]
    license: str
    glibc: str

    @property
    def requirement(self) -> str:
        """For pip: the exact file."""
        return f"{self.distribution}=={self.version} --hash=sha256:{self.sha256}"


def names() -> tuple[str, ...]:
    """The engines that are pinned, the default first."""
    return tuple(_tables())


def pin(engine: str, arch: str) -> Pin:
    """The pin of an engine for an architecture. Raises MissingError (exit 10) where there is none."""
    table = _tables().get(engine)
    if table is None:
        raise MissingError(
            f"no device wheel can be made with the engine '{engine}'",
            f"pinned are {', '.join(names())}", "Take one of them.", code="E1035",
        )  # fmt: skip
    wheel = table["wheels"].get(arch)
    if wheel is None:
        raise MissingError(
            f"no device wheel can be made for {arch}", f"pinned are {', '.join(table['wheels'])}",
            "The device needs a 64-bit system of one of these.", code="E1035",
        )  # fmt: skip
    return Pin(
        engine,
        arch,
        table["distribution"],
        table["version"],
        table["python"],
        wheel["platform"],
        wheel["sha256"],
        table["library"],
        tuple(table["licenses"]),
        table["license"],
        wheel["glibc"],
    )


@functools.cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(ENGINES.read_text(encoding="utf-8"))
