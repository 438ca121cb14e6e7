"""The wheelhouse: self-contained wheels for devices, each edgec-runtime with one engine's library, pinned by hash.

    from edgec_toolchains import wheelhouse
    made = wheelhouse.device_wheel("litert", "aarch64")     # downloads the engine's wheel once
    made.path, made.glibc, made.installed

`make device-wheel` and `edgec devices setup` use it. Adding an engine: its table in engines.toml.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgec_toolchains.wheelhouse import fetch, runtime_files, wheel
from edgec_toolchains.wheelhouse.locks import ARCHITECTURES, Pin, names, pin

__all__ = ["ARCHITECTURES", "Made", "Pin", "device_wheel", "home", "names", "pin"]


@dataclass(frozen=True)
class Made:
    """A device wheel on the disk.

    Attributes:
        path: the file.
        engine, version, arch: what is in it.
        glibc: the oldest glibc that it runs on.
        glibcxx: the newest symbol version of libstdc++ that it needs, such as "3.4.30"; empty for none.
        installed: bytes that it takes when it is installed.
    """

    path: Path
    engine: str
    version: str
    arch: str
    glibc: str
    glibcxx: str
    installed: int


def home() -> Path:
    """Where wheels are kept: `$EDGEC_CACHE/wheelhouse`, else in the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("EDGEC_CACHE") or platformdirs.user_cache_dir("edgec")) / "wheelhouse"


def device_wheel(engine: str, arch: str, *, folder: Path | None = None, downloads: Path | None = None) -> Made:
    """Make the device wheel of an engine for an architecture; the same bytes each time.

    Args:
        engine: one of `names()`.
        arch: one of `ARCHITECTURES`.
        folder: where it goes; `home()` by default.
        downloads: where the engine's own wheel is kept; `home()` by default.

    Raises MissingError (exit 10) where the engine is not pinned or its wheel can't be downloaded.
    """
    source = pin(engine, arch)
    library = fetch.library(source, fetch.wheel(source, downloads or home()))
    made = wheel.build(runtime_files.installed(), library)
    where = folder or home()
    where.mkdir(parents=True, exist_ok=True)
    path = where / made.name
    with tempfile.NamedTemporaryFile(dir=where, prefix=".wheel-", delete=False) as file:
        file.write(made.data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    floor = library.elf.floor("GLIBCXX_")
    return Made(path, engine, source.version, arch, made.glibc, floor, made.installed)
