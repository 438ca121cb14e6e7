"""What this machine runs to make and start a virtual board, from Debian's packages: QEMU, mke2fs, debugfs, Python 3.11.

Unpacked into a folder with all libraries beside libc; nothing is installed. QEMU that the system has comes in where
Debian's does not run (an older libc).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgec_runtime.errors import MissingError, UnsupportedError

PACKAGES = (
    # The machine. Its firmware, keymaps and screens are not needed: a kernel is given, and there is no display.
    "qemu-system-arm", "libaio1", "libbpf1", "libcapstone4", "libfdt1", "libfuse3-3", "libglib2.0-0", "libgmp10",
    "libgnutls30", "libhogweed6", "libibverbs1", "libjpeg62-turbo", "libnettle8", "libnuma1", "libpixman-1-0",
    "libpmem1", "libpng16-16", "librdmacm1", "libsasl2-2", "libseccomp2", "libslirp0", "libudev1", "liburing2",
    "libvdeplug2", "libzstd1", "zlib1g", "libffi8", "libidn2-0", "libp11-kit0", "libtasn1-6", "libunistring2",
    "libelf1", "libnl-3-200", "libnl-route-3-200", "libndctl6", "libdaxctl1", "libkmod2", "libpcre2-8-0", "libgcc-s1",
    "liblzma5", "libssl3", "libmount1", "libblkid1", "libselinux1", "libuuid1",
    # The disks.
    "e2fsprogs", "libext2fs2", "libcom-err2", "libss2",
    # Bytecode for the board's Python, which is this one.
    "python3.11-minimal", "libexpat1",
)  # fmt: skip
"""Debian's packages of this machine's architecture."""

UNUSED = ("./usr/share/*", "./usr/bin/qemu-system-arm", "./usr/lib/*/gconv/*", "./lib/udev/*", "./lib/systemd/*")
_QEMU = "qemu-system-aarch64"


@dataclass(frozen=True)
class Tools:
    """The unpacked programs; `folder` is their root."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables to run them with."""
        libraries = sorted((*self.folder.glob("usr/lib/*-linux-gnu*"), *self.folder.glob("lib/*-linux-gnu*")))
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C",
            "LD_LIBRARY_PATH": os.pathsep.join(str(path) for path in libraries),
            "MKE2FS_CONFIG": str(self.folder / "etc" / "mke2fs.conf"),
        }

    def qemu(self) -> tuple[Path, dict[str, str]]:
        """The emulator of whole machines, with its environment. Raises MissingError (E1050) where none runs here."""
        own = self.folder / "usr" / "bin" / _QEMU
        if self._runs(own, self.environment):
            return own, self.environment
        there = shutil.which(_QEMU)
        plain = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        if there and self._runs(Path(there), plain):
            return Path(there), plain
        raise MissingError(
            f"{_QEMU} does not run on this machine", "Debian 12's needs glibc 2.36, and the system has none of its own",
            "Install qemu-system-arm (Debian, Ubuntu) or qemu-system-aarch64 (Fedora), version 7 or newer.",
            code="E1050",
        )  # fmt: skip

    def run(
        self,
        program: str,
        arguments: Sequence[str | Path],
        *,
        stdin: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run one ("sbin/mke2fs") to its end; returns what it printed. Raises UnsupportedError where it fails."""
        command = [str(self.folder / program), *map(str, arguments)]
        environment = {**self.environment, **(variables or {})}
        done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True)
        if done.returncode:
            words = " ".join((done.stderr or done.stdout).split())[-300:]
            raise UnsupportedError(f"{program} fails on this machine", words or f"exit status {done.returncode}")
        return done.stdout

    @staticmethod
    def _runs(program: Path, environment: Mapping[str, str]) -> bool:
        try:
            return not subprocess.run([program, "--version"], env=dict(environment), capture_output=True).returncode
        except OSError:
            return False
