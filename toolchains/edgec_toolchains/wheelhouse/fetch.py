"""Getting a pinned wheel by pip, and the engine's library out of it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgec_runtime import elf
from edgec_runtime.errors import BadInputError, MissingError
from edgec_toolchains.wheelhouse.locks import Pin


@dataclass(frozen=True)
class EngineLibrary:
    """An engine's shared library, as a device wheel takes it.

    Attributes:
        pin: where it is from.
        name: the file's name.
        data: its bytes.
        licenses: file name -> text, of the engine's licence and notices.
        elf: what it needs of a system.
    """

    pin: Pin
    name: str
    data: bytes
    licenses: Mapping[str, bytes]
    elf: elf.Elf


def wheel(pin: Pin, folder: Path) -> Path:
    """The pinned wheel in `folder`: there already with the right hash, or downloaded by pip.

    Raises MissingError (E1032, exit 10) where pip or the network is missing, or the registry has another file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob(f"{pin.distribution.replace('-', '_')}-{pin.version}-*{pin.arch}.whl")):
        if digest(path) == pin.sha256:
            return path
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as work:
        requirements = Path(work) / "requirements.txt"
        requirements.write_text(pin.requirement + "\n")
        # fmt: off
        command = [
            sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--require-hashes",
            "--python-version", pin.python, "--implementation", "cp", f"--platform={pin.platform}",
            "-d", work, "-r", str(requirements),
        ]
        # fmt: on
        done = subprocess.run(command, capture_output=True, text=True)
        found = list(Path(work).glob("*.whl"))
        if done.returncode or len(found) != 1:
            errors = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
            raise MissingError(
                f"the wheel of {pin.distribution} {pin.version} for {pin.arch} can't be downloaded",
                " ".join(" ".join(errors).split())[-300:],
                "Check that pip reaches its registry, then run it again. Without a network: build the device wheel on "
                "a machine that has one (make device-wheel), and give it with --wheel FILE.",
                code="E1032",
            )
        return found[0].replace(folder / found[0].name)


def library(pin: Pin, path: Path) -> EngineLibrary:
    """The engine's library and licence out of a wheel.

    Raises BadInputError (E930) where the wheel lacks a file, or the library is for another machine.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(pin.library)
            licenses = {name.rpartition("/")[2]: archive.read(name) for name in pin.licenses}
        read = elf.read(data)
    except (KeyError, ValueError, zipfile.BadZipFile) as e:
        raise BadInputError(
            f"{path.name} is not the wheel that engines.toml describes", str(e), "Delete it and try again.", code="E930"
        ) from e
    if read.machine != pin.arch or read.bits != 64:
        raise BadInputError(
            f"the library in {path.name} is for {read.machine}", f"{pin.arch} is wanted", "Mend engines.toml.",
            code="E930",
        )  # fmt: skip
    return EngineLibrary(pin, pin.library.rpartition("/")[2], data, licenses, read)


def digest(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
