"""What all virtual boards share: kernel, initramfs and the read-only system, made once and kept.

Made in a folder beside its place and moved there whole; several processes may ask at once: one makes it, the others
wait. apt checks the package lists' signature, and each download's SHA-256 against them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec_toolchains.aarch64 import packages
from edgec_toolchains.boards import server
from edgec_toolchains.boards.virtual import disk, system
from edgec_toolchains.boards.virtual import tools as tools_
from edgec_toolchains.boards.virtual.tools import Tools


@dataclass(frozen=True)
class Image:
    """An image that is ready.

    Attributes:
        folder: where it lies.
        versions: what it is made of, for results that name their tools.
    """

    folder: Path
    versions: dict[str, Any]

    @property
    def kernel(self) -> Path:
        """Linux."""
        return self.folder / "kernel"

    @property
    def initramfs(self) -> Path:
        """The first file system."""
        return self.folder / "initramfs.gz"

    @property
    def system(self) -> Path:
        """The read-only disk."""
        return self.folder / "system.ext4"

    @property
    def tools(self) -> Tools:
        """What runs and makes disks on this machine."""
        return Tools(self.folder / "tools")


def home() -> Path:
    """The folder of virtual boards' images: `virtual` in that of all boards (`boards.server.home`)."""
    return server.home() / "virtual"


def prepare(folder: Path | None = None, *, progress: Callable[[str], None] = lambda step: None) -> Image:
    """The image, made where it is missing (half a minute, 75 MB to download, 135 MB on disk), else found.

    Args:
        folder: where; None for `home()`.
        progress: called with a line before each step.

    Raises:
        MissingError (exit 10): apt, a mirror or the network is missing (E1031), or no QEMU runs here (E1050).
        UnsupportedError: a tool fails, say for a full disk.
    """
    where = (folder or home()).absolute()
    where.mkdir(parents=True, exist_ok=True)
    target = where / recipe()[:16]
    with _locked(where):
        found = _found(target)
        if found:
            return found
        part = where / f"{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            _make(part, progress)
            shutil.rmtree(target, ignore_errors=True)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        _forget_others(where, target)
    made = _found(target)
    assert made is not None
    return made


def recipe() -> str:
    """A digest of all that decides what the image is: another recipe makes another folder."""
    said = [tools_.PACKAGES, tools_.UNUSED, packages.SUITE]
    here = Path(__file__).parent
    files = [here / f"{name}.py" for name in ("system", "image", "disk", "cpio")] + sorted((here / "guest").iterdir())
    return hashlib.sha256(b"\0".join([repr(said).encode(), *(path.read_bytes() for path in files)])).hexdigest()


def _make(part: Path, progress: Callable[[str], None]) -> None:
    machine, state = packages.machine(), part / "apt"
    progress("QEMU and the file system's tools")
    wanted = [f"{name}:{machine}" for name in tools_.PACKAGES]
    own = packages.unpack(wanted, part / "tools", state / "host", leave_out=tools_.UNUSED)
    tools = Tools(part / "tools")
    tools.qemu()  # raises here, before the rest is downloaded
    progress("Debian 12 of arm64, with Python 3.11")
    guest = system.fill(part / "root", state / "guest", tools)
    progress("its kernel")
    kernel = system.kernel(part / "linux", state / "guest")
    shutil.copyfile(system.image(part / "linux"), part / "kernel")
    first = system.initramfs(part / "linux", part / "root" / "usr" / "bin" / "busybox")
    (part / "initramfs.gz").write_bytes(first)
    progress("its disk")
    disk.system(tools, part / "root", part / "system.ext4")
    versions = {"debian": [asdict(package) for package in (*guest, *kernel, *own)]}
    for name in ("apt", "root", "linux"):
        shutil.rmtree(part / name)
    (part / "image.json").write_text(json.dumps(versions, indent=1) + "\n")


def _found(target: Path) -> Image | None:
    try:
        return Image(target, json.loads((target / "image.json").read_text()))
    except (OSError, ValueError):
        return None


def _forget_others(where: Path, keep: Path) -> None:
    """Images of other recipes go. A board that runs has its files open, so it isn't hurt."""
    for entry in where.iterdir():
        if entry.is_dir() and entry != keep:
            shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def _locked(where: Path) -> Iterator[None]:
    with open(where / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
