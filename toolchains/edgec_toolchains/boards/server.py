"""OpenSSH's server from Debian's packages, unpacked into a folder: no root, nothing installed, no system service."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgec_toolchains.aarch64 import packages

VARIABLE = "EDGEC_BOARDS"
"""Environment variable that names the folder; `build/boards` in the tests, else `boards` in `$EDGEC_CACHE`, else in the
user's cache."""

# The server, the library that shows it users of our own, and what both link to beside libc.
_PACKAGES = (
    "openssh-server", "openssh-sftp-server", "libnss-wrapper", "libwrap0", "libpam0g", "libsystemd0", "libaudit1",
    "libselinux1", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1",
    "libcrypt1", "libssl3", "zlib1g", "libcap-ng0", "libcap2", "liblz4-1", "liblzma5", "libzstd1", "libgcrypt20",
    "libgpg-error0", "libpcre2-8-0", "libnsl2", "libtirpc3",
)  # fmt: skip
_BUSYBOX = "busybox-static:arm64"
_UNUSED = ("./usr/share/*", "./etc/*")


@dataclass(frozen=True)
class Server:
    """An OpenSSH server that is ready to run. `folder` is its root."""

    folder: Path

    @property
    def sshd(self) -> Path:
        """The program."""
        return self.folder / "usr" / "sbin" / "sshd"

    @property
    def sftp(self) -> Path:
        """The program that serves files."""
        return self.folder / "usr" / "lib" / "openssh" / "sftp-server"

    @property
    def users(self) -> Path:
        """nss_wrapper: preloaded, it shows the server a passwd file of our own (cwrap.org)."""
        return next((self.folder / "usr" / "lib").glob("*/libnss_wrapper.so"))

    @property
    def libraries(self) -> str:
        """The folders of the libraries, for LD_LIBRARY_PATH."""
        found = (*(self.folder / "usr" / "lib").glob("*-linux-gnu*"), *(self.folder / "lib").glob("*-linux-gnu*"))
        return os.pathsep.join(str(path) for path in sorted(found))


def home() -> Path:
    """The folder that `EDGEC_BOARDS` names, else `boards` in `$EDGEC_CACHE` or in the user's cache."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    cache = os.environ.get("EDGEC_CACHE")
    if cache:
        return Path(cache).absolute() / "boards"
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgec")) / "boards"


def prepare(folder: Path | None = None) -> Server:
    """The server, unpacked where it is missing (5 MB to download), else found.

    Raises MissingError (exit 10) where apt, a mirror or the network is missing.
    """
    where = (folder or home()).absolute()
    target = where / "openssh"
    if not (target / "usr" / "sbin" / "sshd").is_file():
        machine = packages.machine()
        _unpack([f"{name}:{machine}" for name in _PACKAGES], target, where / "apt" / machine)
    return Server(target)


def busybox(folder: Path | None = None) -> Path:
    """BusyBox for aarch64, for boards whose commands run on an emulated core. Raises as `prepare` does."""
    where = (folder or home()).absolute()
    target = where / "busybox"
    if not (target / "bin" / "busybox").is_file():
        _unpack([_BUSYBOX], target, where / "apt" / "arm64")
    return target / "bin" / "busybox"


def _unpack(wanted: list[str], target: Path, state: Path) -> None:
    """Beside its place, then moved there whole: several processes may do this at once."""
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    state = state.with_name(f"{state.name}.{os.getpid()}")  # apt locks its state
    try:
        packages.unpack(wanted, part, state, leave_out=_UNUSED)
        try:
            part.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(state, ignore_errors=True)
