"""What of a device is not as one would think, told before anything is sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from edgec.devices.probe import MINIMUM, Probe

LITTLE_MEMORY = 256 << 20  # bytes: the runtime and LiteRT take 30 MB, a model its own
CLOCK = 86400  # seconds between the clocks that are worth a word
ROOM = 16_000_000  # bytes: the smallest engine, as it is sent and unpacked, and a small model
ARCHITECTURES = ("aarch64", "x86_64")
INSTALL = "sudo apt install python3"


@dataclass(frozen=True)
class Surprise:
    """`level`: "stop" where the runtime can't run there, "note" where one should know."""

    level: Literal["stop", "note"]
    what: str
    fix: str

    def as_dict(self) -> dict[str, str]:
        """For `--json`."""
        return asdict(self)


def surprises(found: Probe, *, now: float | None = None) -> list[Surprise]:
    """All of them, what stops first. `now` is this machine's clock, in seconds since 1970."""
    said = [*_system(found), *_python(found), *_folder(found), *_notes(found, now)]
    return sorted(said, key=lambda each: each.level != "stop")


def _system(found: Probe) -> Iterator[Surprise]:
    if found.bits == 32 and found.machine in ARCHITECTURES:
        yield Surprise(
            "stop",
            f"its programs are 32-bit, though its kernel is 64-bit ({found.machine})",
            "Install the 64-bit image of its system: engines are built for 64 bits only.",
        )
    elif found.arch not in ARCHITECTURES:
        yield Surprise(
            "stop",
            f"its architecture is {found.arch or 'unknown'}",
            f"edgec's engines run on {' and '.join(ARCHITECTURES)}.",
        )
    if found.libc == "musl":
        yield Surprise("stop", "its C library is musl (Alpine, OpenWrt)", "Engines need glibc: take a Debian image.")
    elif not found.glibc:
        yield Surprise("note", "its C library can't be told", "Engines need glibc.")


def _python(found: Probe) -> Iterator[Surprise]:
    python = found.python
    least = ".".join(map(str, MINIMUM))
    if python is None:
        yield Surprise("stop", "it has no Python", f"On the device: {INSTALL} (at least {least}).")
        return
    if python.version < MINIMUM:
        yield Surprise(
            "stop",
            f"its Python is {python.text}, at least {least} is needed",
            "Install a newer one, or a newer system.",
        )
    if python.missing:
        yield Surprise(
            "stop", f"its Python lacks {', '.join(python.missing)}", f"It is a minimal one. On the device: {INSTALL}"
        )
    if found.glibc and not python.libstdcxx:
        yield Surprise("stop", "it has no libstdc++", "Engines need it. On the device: sudo apt install libstdc++6")


def _folder(found: Probe) -> Iterator[Surprise]:
    if found.both_roots:
        yield Surprise(
            "stop",
            f"it has two root folders, {found.root} and {found.both_roots}",
            "Remove one of them, or name the one to use with --root.",
        )
    options = found.mount.split(",")
    if "ro" in options:
        yield Surprise("stop", f"{found.root} is on a read-only file system", "Name another folder with --root.")
    elif not found.writable:
        yield Surprise("stop", f"this user may not write to {found.root}", "Name another folder with --root.")
    if "noexec" in options:
        yield Surprise(
            "stop", f"{found.root} is on a file system that forbids programs (noexec)", "Name another with --root."
        )
    if found.disk is not None and found.disk < ROOM:
        yield Surprise("stop", f"{found.disk / 1e6:.0f} MB are free at {found.root}", "Free some space there.")


def _notes(found: Probe, now: float | None) -> Iterator[Surprise]:
    if found.memory is not None and found.memory < LITTLE_MEMORY:
        yield Surprise(
            "note",
            f"it has {found.memory / 2**20:.0f} MiB of memory",
            "Small int8 models only; give LiteRT one thread.",
        )
    if now is not None and found.clock is not None and abs(found.clock - now) > CLOCK:
        days = abs(found.clock - now) / 86400
        yield Surprise("note", f"its clock is {days:,.0f} days off", "Set it, or run a time service.")
    if found.arch == "aarch64" and found.isa and "asimddp" not in found.isa:
        yield Surprise(
            "note", f"its {found.cpu or 'CPU'} has no dot products (Armv8.0)", "int8 gains less there; measure on it."
        )
    package = found.python.packages.get("onnxruntime", "") if found.python else ""
    if package.startswith("1.21.") and package < "1.21.2" and "asimddp" not in found.isa and found.arch == "aarch64":
        yield Surprise(
            "note", f"its onnxruntime {package} dies of an illegal instruction on this CPU", "Install another version."
        )
