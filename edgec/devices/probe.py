"""What a device is: one shell script is run on it, and what it prints is read here, believing nothing of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgec.devices.transport import Connection
from edgec.errors import UnsupportedError

SCRIPT = Path(__file__).with_name("remote") / "probe.sh"
MINIMUM = (3, 9)
"""The oldest Python that edgec-runtime runs on."""

_FIRST = "@@edgec-probe 1"
_GNU = re.compile(r"(?:GLIBC|GNU libc|glibc)\D{0,40}?(\d+\.\d+)|ldd \(.*?\) (\d+\.\d+)")


@dataclass(frozen=True)
class Python:
    """A Python on the device.

    Attributes:
        path: as its shell finds it.
        version: three numbers.
        bits: of its programs, 32 or 64.
        packages: engines and others that pip installed, with their versions.
        missing: standard modules that it lacks, of those that are needed.
        libstdcxx: the newest symbol version of the device's libstdc++, as "3.4.30"; empty where there is none.
    """

    path: str
    version: tuple[int, int, int]
    bits: int
    packages: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    libstdcxx: str = ""

    @property
    def text(self) -> str:
        """ "3.11.2"."""
        return ".".join(map(str, self.version))


@dataclass(frozen=True)
class Probe:
    """What a device said of itself. Sizes are in bytes; what it did not say is empty, or None.

    Attributes:
        machine: the kernel's architecture ("aarch64", also under a 32-bit userland).
        bits: of its programs, not of its kernel; None where nothing tells.
        kernel, os, model: as it names them.
        cpu: the cores' names, as "Cortex-A76 + Cortex-A55".
        isa: CPU features that all cores share, as Linux names them, in its order.
        cores: how many; `big` of them are the fastest kind.
        memory, free_memory: of the machine.
        libc: "glibc" or "musl"; `glibc`: its version where it is GNU's.
        python: the first that is new enough, else the newest; None without any.
        root: where edgec would live; `writable`: whether this user may; `disk`: bytes free there; `mount`: its options.
        both_roots: a second root folder that is there too; empty for none.
        clock: seconds since 1970 on the device.
    """

    machine: str
    bits: int | None
    kernel: str
    os: str
    model: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    big: int
    memory: int | None
    free_memory: int | None
    libc: str
    glibc: str
    python: Python | None
    root: str
    writable: bool
    disk: int | None
    mount: str
    both_roots: str
    clock: int | None

    @property
    def arch(self) -> str:
        """The architecture of its programs: "armv7l" for a 32-bit userland on a 64-bit kernel."""
        if self.bits == 32:
            return {"aarch64": "armv7l", "x86_64": "i686"}.get(self.machine, self.machine)
        return self.machine

    def as_dict(self) -> dict[str, Any]:
        """For `--json` and the inventory."""
        return {**asdict(self), "arch": self.arch}


async def probe(device: Connection, *, root: str = "") -> Probe:
    """Ask a device what it is. Nothing is changed or left there; POSIX sh is enough.

    Args:
        device: from `connect`.
        root: the root folder that edgec shall have there; empty for the device's own rule.

    Raises UnsupportedError (E406) where it answers with something else (no POSIX shell).
    """
    done = await device.script(SCRIPT.read_text(encoding="utf-8"), root, check=False)
    text = done.stdout.decode("utf-8", "replace")
    if _FIRST not in text or "@@end" not in text:
        words = " ".join((done.stderr or text).split())[-200:]
        raise UnsupportedError(
            f"{device.address} does not run a POSIX shell script", words or "it answered nothing",
            "edgec needs a device with Linux and sh.", code="E406",
        )  # fmt: skip
    return read(text)


def read(text: str) -> Probe:
    """The probe's output as facts. A section that is missing or damaged leaves its facts empty."""
    parts = _sections(text.partition(_FIRST)[2])
    pythons = [found for line in parts.get("python", ()) if (found := _python(line))]
    chosen = next((p for p in pythons if p.version >= MINIMUM), max(pythons, key=lambda p: p.version, default=None))
    raw = _chosen(parts.get("python", ()), chosen)
    machine = _line(parts, "uname", 1)
    release = dict(line.partition("=")[::2] for line in parts.get("os", ()))
    cores = _cores(parts.get("cpuinfo", ()))
    libc, glibc = _libc(parts.get("libc", ()), raw.get("libc", ""))
    there = _line(parts, "root", 1)
    return Probe(
        machine=machine,
        bits=_bits(parts, chosen),
        kernel=_line(parts, "uname", 2),
        os=release.get("PRETTY_NAME", "").strip("\"'") or _line(parts, "uname", 0),
        model=_line(parts, "model", 0),
        cpu=" + ".join(dict.fromkeys(name for name, _, _ in cores)) if cores else "",
        isa=_common([features for _, _, features in cores]),
        cores=_number(_line(parts, "cpus", 0)) or max(1, len(cores)),
        big=_big([part for _, part, _ in cores]),
        memory=_kilobytes(parts.get("meminfo", ()), "MemTotal"),
        free_memory=_kilobytes(parts.get("meminfo", ()), "MemAvailable"),
        libc=libc,
        glibc=glibc,
        python=chosen,
        root=_line(parts, "root", 0),
        writable=_line(parts, "root", 2) == "writable",
        disk=_free(parts.get("disk", ())),
        mount=_mount(parts.get("mounts", ()), there),
        both_roots=_line(parts, "both", 0),
        clock=_number(_line(parts, "clock", 0)),
    )


def _sections(text: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("@@"):
            current = parts.setdefault(line[2:], [])
        elif line.strip():
            current.append("".join(c for c in line if c.isprintable() or c == "\t").strip())
    return parts


def _line(parts: Mapping[str, list[str]], section: str, index: int) -> str:
    lines = parts.get(section, [])
    return lines[index] if index < len(lines) else ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 16 else None


def _python(line: str) -> Python | None:
    try:
        found = json.loads(line)
        version = found["version"]
        return Python(
            str(found["path"]),
            (int(version[0]), int(version[1]), int(version[2])),
            int(found["bits"]),
            {str(name): str(version) for name, version in found.get("packages", {}).items()},
            tuple(str(name) for name in found.get("missing", ())),
            str(found.get("libstdcxx", "")),
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _chosen(lines: list[str] | tuple[()], python: Python | None) -> dict[str, str]:
    """What the chosen Python said besides."""
    for line in lines:
        if python is not None and _python(line) == python:
            return {key: value for key, value in json.loads(line).items() if isinstance(value, str)}
    return {}


def _bits(parts: Mapping[str, list[str]], python: Python | None) -> int | None:
    """Of the programs: Python's, else the shell's ELF class (127 E L F, then 1 for 32 and 2 for 64), else getconf's."""
    if python is not None:
        return python.bits
    header = _line(parts, "shell", 0).split()
    if header[:4] == ["127", "69", "76", "70"] and header[4:5] in (["1"], ["2"]):
        return 32 if header[4] == "1" else 64
    found = _number(_line(parts, "bits", 0))
    return found if found in (32, 64) else None


def _libc(lines: list[str] | tuple[()], pythons: str) -> tuple[str, str]:
    """Which C library, and the version of GNU's."""
    text = "\n".join([pythons, *lines])
    gnu = _GNU.search(text)
    if gnu:
        return "glibc", gnu[1] or gnu[2]
    return ("musl", "") if "musl" in text else ("", "")


def _cores(lines: list[str] | tuple[()]) -> list[tuple[str, str, tuple[str, ...]]]:
    """For each processor of /proc/cpuinfo: its name, its part number (Arm), its features."""
    from edgec_runtime.cpu import ARM_PARTS

    cores: list[dict[str, str]] = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "processor":
            cores.append({})
        elif cores:
            cores[-1][key.strip()] = value.strip()
    found = []
    for core in cores:
        part = core.get("CPU part", "")
        arm = core.get("CPU implementer", "").lower() == "0x41"
        number = int(part, 16) if re.fullmatch(r"0x[0-9a-fA-F]{1,4}", part) else None
        known = ARM_PARTS.get(number) if arm and number is not None else None
        name = core.get("model name") or known or (f"part {part}" if part else "")
        found.append((name, part, tuple((core.get("flags") or core.get("Features") or "").split())))
    return found


def _common(features: list[tuple[str, ...]]) -> tuple[str, ...]:
    """What all cores have, in the first one's order; each once."""
    said = [each for each in features if each]
    if not said:
        return ()
    shared = set(said[0]).intersection(*said[1:])
    return tuple(dict.fromkeys(word for word in said[0] if word in shared and word == word.lower()))


def _big(parts: list[str]) -> int:
    """How many cores are of the fastest kind. Arm's part numbers grow with the size of the core within a generation."""
    order = ("0xd03", "0xd04", "0xd05", "0xd46", "0xd80")  # A53, A35, A55, A510, A520: the small ones
    large = [part for part in parts if part.lower() not in order]
    return len(large) or len(parts)


def _kilobytes(lines: list[str] | tuple[()], key: str) -> int | None:
    for line in lines:
        name, _, value = line.partition(":")
        if name == key and value.split():
            number = _number(value.split()[0])
            return number * 1024 if number is not None else None
    return None


def _free(lines: list[str] | tuple[()]) -> int | None:
    """The fourth column of `df -Pk`, counted from its end: a device's name may have spaces."""
    words = lines[-1].split() if len(lines) > 1 else []
    number = _number(words[-3]) if len(words) >= 6 else None
    return number * 1024 if number is not None else None


def _mount(lines: list[str] | tuple[()], path: str) -> str:
    """The options of the file system that holds a path."""
    best, options = "", ""
    for line in lines:
        words = line.split()
        if len(words) < 4:
            continue
        point = words[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, options = point, words[3]
    return options
