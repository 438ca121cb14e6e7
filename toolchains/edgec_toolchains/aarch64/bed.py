"""The test bed's folder: an aarch64 Debian with Python, QEMU, the counting plugin, the engines' wheels.

Made once, in steps; downloads are kept, and a step that was cut off is done again. About 300 MB. Several processes may
ask for it at once: one makes it, the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_toolchains.aarch64 import packages, wheels
from edgec_toolchains.aarch64.cores import CORES

VARIABLE = "EDGEC_AARCH64"
"""Environment variable that names the folder."""

_GUEST = (
    "libc6", "libgcc-s1", "libstdc++6", "libgomp1", "zlib1g", "libcrypt1", "libssl3", "libexpat1", "libffi8",
    "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1", "python3.11-minimal", "libpython3.11-minimal",
    "libpython3.11-stdlib",
)  # fmt: skip
# `qemu-user`, linked dynamically: the static build of Debian 12 can't load plugins. What it links to comes along, so
# that nothing but libc is asked of the machine.
_EMULATOR = (
    "qemu-user", "libcapstone4", "libnuma1", "liburing2", "libglib2.0-0", "libgnutls30", "libffi8", "libmount1",
    "libblkid1", "libpcre2-8-0", "libselinux1", "zlib1g", "libgmp10", "libhogweed6", "libidn2-0", "libnettle8",
    "libp11-kit0", "libtasn1-6", "libunistring2",
)  # fmt: skip
_UNUSED = ("./usr/share/*", "./usr/lib/*/gconv/*")
_OTHER_CPUS = ("./usr/bin/qemu-[!a]*", "./usr/bin/qemu-a[!a]*")
_MERGED = ("bin", "sbin", "lib")  # Debian's /bin is /usr/bin


@dataclass(frozen=True)
class Bed:
    """A test bed that is ready.

    Attributes:
        folder: where it lies.
        versions: what it is made of: Debian's packages, wheels, the plugin's digest. For results that name their tools.
    """

    folder: Path
    versions: dict[str, Any]

    @property
    def emulator(self) -> Path:
        """QEMU's user-mode emulator of aarch64."""
        return self.folder / "host" / "usr" / "bin" / "qemu-aarch64"

    @property
    def libraries(self) -> str:
        """The folder of the emulator's own libraries, for LD_LIBRARY_PATH."""
        return os.pathsep.join(
            str(path) for path in sorted((self.folder / "host" / "usr" / "lib").glob("*-linux-gnu*"))
        )

    @property
    def plugin(self) -> Path:
        """The plugin that counts."""
        return self.folder / "counter.so"

    def root(self, core: str) -> Path:
        """The guest's root folder as this core sees it."""
        return self.folder / "cores" / core

    def wheel(self, name: str) -> Path:
        """The folder of an unpacked wheel, for the guest's PYTHONPATH. MissingError where it is not pinned."""
        if name not in wheels.names():
            raise MissingError(
                f"the emulated ARM system has no {name!r}", f"it has {', '.join(wheels.names())}", "", code="E1032"
            )
        return self.folder / "wheels" / name

    @property
    def qemu(self) -> str:
        """QEMU's version as Debian has it."""
        return next(str(p["version"]) for p in self.versions["debian"] if p["name"] == "qemu-user")


def home() -> Path:
    """The folder that `EDGEC_AARCH64` names, else one in the user's cache."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgec")) / "aarch64"


def prepare(folder: Path | None = None, *, progress: Callable[[str], None] = lambda step: None) -> Bed:
    """The test bed, made where it is missing (a minute at most, 80 MB to download), else found.

    Args:
        folder: where; None for `home()`.
        progress: called with a line before each step.

    Raises:
        MissingError: apt, a mirror, pip, the network or a C compiler is missing (exit 10).
        UnsupportedError: what was made does not work on this machine.
    """
    where = (folder or home()).absolute()
    where.mkdir(parents=True, exist_ok=True)
    found = _found(where)
    if found:
        return found
    with _locked(where):
        return _found(where) or _make(where, progress)


def _recipe() -> str:
    """A digest of all that decides what the bed is: another recipe makes a new one in its place."""
    parts = [
        str(_GUEST),
        str(_EMULATOR),
        str(_UNUSED),
        str(_OTHER_CPUS),
        packages.SUITE,
        wheels.PINS.read_text(),
        _source().read_text(),
    ]
    parts += [f"{model.name}{model.cpuinfo()}" for model in CORES.values()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _found(where: Path) -> Bed | None:
    try:
        versions = json.loads((where / "bed.json").read_text())
    except (OSError, ValueError):
        return None
    return Bed(where, versions) if versions.get("recipe") == _recipe() else None


def _make(where: Path, progress: Callable[[str], None]) -> Bed:
    (where / "bed.json").unlink(missing_ok=True)
    state = where / "apt"
    progress("Debian 12 of aarch64, with Python 3.11")
    guest = _step(where / "guest", lambda part: _guest(part, state))
    progress("QEMU's user mode")
    machine = packages.machine()
    emulator = _step(where / "host", lambda part: _system(part, _EMULATOR, machine, state, (*_UNUSED, *_OTHER_CPUS)))
    progress("the counting plugin")
    compile_plugin(_source(), where / "counter.so")
    progress("the engines' wheels")
    files = wheels.unpack(where / "wheels")
    for model in CORES.values():
        _core(where / "cores" / model.name, where / "guest", model.cpuinfo())
    versions = {
        "recipe": _recipe(),
        "debian": [asdict(package) for package in (*guest, *emulator)],
        "wheels": list(files),
        "plugin": hashlib.sha256(_source().read_bytes()).hexdigest(),
    }
    bed = Bed(where, versions)
    progress("a first run")
    _try(bed)
    part = where / "bed.json.part"
    part.write_text(json.dumps(versions, indent=1) + "\n")
    part.rename(where / "bed.json")
    return bed


def _step(target: Path, fill: Callable[[Path], tuple[packages.Package, ...]]) -> tuple[packages.Package, ...]:
    """Make a folder beside its place and move it there when it is whole."""
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    part.mkdir(parents=True)
    made = fill(part)
    part.rename(target)
    return made


def _guest(part: Path, state: Path) -> tuple[packages.Package, ...]:
    made = _system(part, _GUEST, "arm64", state, _UNUSED)
    (part / "usr" / "bin" / "python3").symlink_to("python3.11")
    return made


def _system(
    part: Path, names: Sequence[str], architecture: str, state: Path, leave_out: Sequence[str]
) -> tuple[packages.Package, ...]:
    for name in _MERGED:
        (part / "usr" / name).mkdir(parents=True, exist_ok=True)
        (part / name).symlink_to(f"usr/{name}")
    wanted = [f"{name}:{architecture}" for name in names]
    return packages.unpack(wanted, part, state / architecture, leave_out=leave_out)


def _core(root: Path, guest: Path, cpuinfo: str) -> None:
    """A root of the core's own: the guest's files by link, and its /proc/cpuinfo (QEMU 7 shows the host's)."""
    shutil.rmtree(root, ignore_errors=True)
    (root / "proc").mkdir(parents=True)
    (root / "proc" / "cpuinfo").write_text(cpuinfo)
    for entry in guest.iterdir():
        (root / entry.name).symlink_to(os.path.relpath(entry, root))


def compile_plugin(source: Path, target: Path) -> None:
    """Compile the plugin with the system's C compiler. Raises MissingError (exit 10) without one."""
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    fix = "Install one (apt-get install gcc libc6-dev), or set CC to it."
    if compiler is None:
        raise MissingError("there is no C compiler", "the instruction counter is compiled here", fix, code="E1033")
    part = target.with_name(target.name + ".part")
    command = [*compiler.split(), "-O2", "-Wall", "-shared", "-fPIC", "-o", str(part), str(source)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as e:
        raise MissingError(f"the C compiler {compiler!r} can't be run", str(e), fix, code="E1033") from e
    if done.returncode:
        why = " ".join(done.stderr.split())[-300:]
        raise MissingError("the instruction counter can't be compiled", why, fix, code="E1033")
    part.rename(target)


def _try(bed: Bed) -> None:
    from edgec_toolchains.aarch64.emulator import Core

    ran = Core(bed, CORES["cortex-a76"]).python(["-c", "import os; print(os.uname().machine)"])
    if ran.stdout.strip() != "aarch64" or ran.counts.instructions < 1_000_000:
        raise UnsupportedError(
            "the emulated ARM system does not work", f"it answered {ran.stdout[:80]!r} after {ran.counts}"
        )


def _source() -> Path:
    return Path(__file__).with_name("counter.c")


@contextmanager
def _locked(where: Path) -> Iterator[None]:
    with open(where / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
