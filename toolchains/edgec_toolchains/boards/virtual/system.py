"""The board's system: a small Debian of arm64 with BusyBox, Dropbear and Python 3.11, its kernel and its initramfs.

No maintainer script runs and nothing of arm64 is executed here. Python's bytecode is baked in, for an emulated core
takes seconds to compile the standard library; Debian's own Python of the same version makes it.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from edgec_runtime.errors import BadInputError
from edgec_toolchains.aarch64 import packages
from edgec_toolchains.boards.virtual import cpio
from edgec_toolchains.boards.virtual.tools import Tools

KERNEL = "linux-image-cloud-arm64"
"""The package whose dependency is the newest kernel. It has ext4 and the serial port built in; the rest are modules."""

PACKAGES = (
    "base-files", "libc6", "libgcc-s1", "libstdc++6", "libgomp1", "zlib1g", "libcrypt1", "libssl3", "libexpat1",
    "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "python3.11-minimal", "libpython3.11-minimal",
    "libpython3.11-stdlib", "busybox-static", "dropbear-bin", "libtomcrypt1", "libtommath1", "libgmp10",
)  # fmt: skip
UNUSED = (
    "./usr/share/*", "./usr/lib/*/gconv/*", "./usr/lib/python3.11/lib2to3/*", "./usr/lib/python3.11/pydoc_data/*",
    "./usr/lib/python3.11/config-3.11-*", "./usr/lib/python3.11/turtledemo/*", "./var/*", "./home",
)  # fmt: skip
MODULES = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng")
USER = "pi"

# Not what Python or Dropbear brings: everything else is BusyBox's.
_APPLETS = (
    "sh", "ash", "mount", "umount", "ip", "ifconfig", "hostname", "mkdir", "cat", "cp", "mv", "rm", "rmdir", "ln",
    "ls", "chmod", "chown", "touch", "dd", "df", "du", "ps", "kill", "killall", "sleep", "sync", "date", "dmesg",
    "free", "uname", "id", "env", "test", "[", "expr", "echo", "printf", "true", "false", "head", "tail", "wc", "cut",
    "tr", "sort", "uniq", "grep", "egrep", "sed", "awk", "find", "xargs", "tar", "gzip", "gunzip", "zcat",
    "sha256sum", "md5sum", "cmp", "diff", "od", "hexdump", "stat", "readlink", "realpath", "dirname", "basename",
    "mktemp", "su", "poweroff", "reboot", "halt", "top", "vi", "less", "more", "tee", "which", "whoami", "uptime",
    "nproc", "seq", "setsid", "timeout", "nice", "stty", "tty", "start-stop-daemon", "mountpoint", "fsync",
    "truncate", "yes", "pidof", "command",
)  # fmt: skip
_TOP = ("proc", "sys", "dev", "run", "tmp", "var", "home", "root", "etc/board", "etc/edgec")
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\npi:x:1000:1000:pi:/home/pi:/bin/sh\n",
    "etc/group": "root:x:0:\npi:x:1000:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\npi:*:19000:0:99999:7:::\n",
    "etc/shells": "/bin/sh\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
    "etc/hosts": "127.0.0.1 localhost\n",
    "etc/edgec/recovers": "/etc/board/recover\n",  # for `edgec devices setup`: there is no systemd, and none is needed
}
_GUEST = Path(__file__).with_name("guest")


def fill(folder: Path, state: Path, tools: Tools) -> tuple[packages.Package, ...]:
    """Unpack and set up the system in a new folder. Raises MissingError (exit 10) where a package can't be had."""
    for name in ("bin", "sbin", "lib"):
        (folder / "usr" / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(f"usr/{name}")
    made = packages.unpack([f"{name}:arm64" for name in PACKAGES], folder, state, leave_out=UNUSED)
    for name in _TOP:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name in _APPLETS:
        path = folder / "usr" / "bin" / name
        if not path.exists():
            path.symlink_to("busybox")
    (folder / "usr" / "sbin" / "init").symlink_to("../bin/busybox")
    (folder / "usr" / "bin" / "python3").symlink_to("python3.11")
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    shutil.copyfile(_GUEST / "inittab", folder / "etc" / "inittab")
    for name in ("boot", "recover", "button", "off"):
        shutil.copyfile(_GUEST / name, folder / "etc" / "board" / name)
        (folder / "etc" / "board" / name).chmod(0o755)
    library = folder / "usr" / "lib" / "python3.11"
    arguments: list[str | Path] = [
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        folder,
        library,
    ]
    tools.run("usr/bin/python3.11", arguments, variables={"PYTHONHOME": str(folder / "usr")})
    return made


def kernel(folder: Path, state: Path) -> tuple[packages.Package, ...]:
    """Unpack the newest kernel of the package lists into a new folder. Raises as `fill` does."""
    name = next(need for need in packages.needs(f"{KERNEL}:arm64", state) if need.startswith("linux-image-"))
    return packages.unpack([f"{name}:arm64"], folder, state, leave_out=("./usr/share/*",))


def image(unpacked: Path) -> Path:
    """The kernel itself in an unpacked package. Raises BadInputError (E1055) where there is none."""
    found = next(unpacked.glob("boot/vmlinuz-*"), None)
    if found is None:
        raise BadInputError("Debian's kernel package holds no kernel", str(unpacked), "Report it.", code="E1055")
    return found


def initramfs(unpacked: Path, busybox: Path) -> bytes:
    """The first file system: BusyBox, the modules that find the disks, and the program that loads them; gzip.

    Padded to four bytes: an archive that follows it must begin there (Linux, init/initramfs.c).
    """
    paths = {_plain(path.stem): path for path in unpacked.glob("lib/modules/*/kernel/**/*.ko")}
    order = _ordered(MODULES, {name: _needs(path.read_bytes()) for name, path in paths.items()})
    script = (_GUEST / "initramfs").read_text().replace("@MODULES@", " ".join(f"{name}.ko" for name in order), 2)
    entries = {
        "init": cpio.file(script.encode(), 0o755),
        "bin/busybox": cpio.file(busybox.read_bytes(), 0o755),
        "dev/.keep": cpio.file(b""),
        "system/.keep": cpio.file(b""),
        **{f"modules/{name}.ko": cpio.file(paths[name].read_bytes()) for name in order},
    }
    packed = gzip.compress(cpio.archive(entries), 6, mtime=0)
    return packed + b"\0" * (-len(packed) % 4)


def _plain(name: str) -> str:
    """A module's file may be called virtio-rng where its name is virtio_rng."""
    return name.replace("-", "_")


def _needs(module: bytes) -> tuple[str, ...]:
    """The modules that a module needs, by its own .modinfo ("depends=a,b")."""
    match = re.search(rb"\0depends=([\w,-]*)\0", module)
    return tuple(_plain(name) for name in match[1].decode().split(",") if name) if match else ()


def _ordered(wanted: Iterable[str], needs: dict[str, tuple[str, ...]]) -> list[str]:
    """What is needed before what needs it. A module that the kernel has built in, or lacks, is left out."""
    order: list[str] = []
    for name in wanted:
        if name in needs and name not in order:
            order += [each for each in _ordered(needs[name], needs) if each not in order]
            order.append(name)
    return order
