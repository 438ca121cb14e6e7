"""A probed device as a board file (edgec_targets/boards/*.toml), so that `edgec compile -t FILE` compiles for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgec.devices.probe import Probe
from edgec.errors import UnsupportedError

if TYPE_CHECKING:
    from edgec_targets.types import Board

TARGETS = {"aarch64": "arm_cpu", "x86_64": "x86_cpu"}
FEW_CORES = 4  # with so many or fewer, a spinning thread takes too much of the machine from the application
LITTLE_MEMORY = 640 << 20  # bytes: a board sold with 512 MiB; the arena holds on to its peak
OLDER = {"onnxruntime": ("<1.29", {(3, 9): "<1.20", (3, 10): "<1.24"})}
"""What pip can still install where the pinned library needs a newer glibc: releases whose aarch64 wheels are
manylinux_2_27, and the last with a wheel for an older Python (pypi.org/project/onnxruntime)."""

MODELS = {
    "Raspberry Pi Zero 2": "rpi-zero2w",
    "Raspberry Pi 3": "rpi3",
    "Raspberry Pi 4": "rpi4",
    "Raspberry Pi 400": "rpi4",
    "Raspberry Pi Compute Module 4": "rpi4",
    "Raspberry Pi 5": "rpi5",
    "Raspberry Pi 500": "rpi5",
    "Raspberry Pi Compute Module 5": "rpi5",
    "NXP i.MX8MPlus": "imx8mp",
    "NVIDIA Jetson Orin Nano": "jetson-orin-nano-cpu",
    "NVIDIA Orin NX": "jetson-orin-nx-cpu",
    "NVIDIA Jetson Orin NX": "jetson-orin-nx-cpu",
    "NVIDIA Jetson AGX Orin": "jetson-agx-orin-cpu",
    "Radxa ROCK 5B": "rk3588",
    "Orange Pi 5": "rk3588",
}
"""How a known board's device tree begins its model (Linux arch/arm64/boot/dts) -> its name here."""


def known(found: Probe) -> str:
    """The board that ships with edgec which this device is; empty where it is none of them."""
    fits = [prefix for prefix in MODELS if found.model.startswith(prefix)]
    return MODELS[max(fits, key=len)] if fits and found.bits != 32 else ""


def fields(found: Probe, *, date: str) -> dict[str, Any]:
    """The board file's keys. `date` is today, for the source.

    Raises UnsupportedError (E407, exit 4) where no target of edgec compiles for such a device.
    """
    target = TARGETS.get(found.arch)
    if target is None or not found.isa:
        what = found.arch or "an unknown machine"
        raise UnsupportedError(
            f"no board file can be written for {what}"
            + ("" if target is None else " whose CPU features can't be told"),
            f"edgec compiles for {', '.join(TARGETS)}" if target is None else "/proc/cpuinfo lists none",
            "Install the 64-bit image of its system." if found.bits == 32 else "Take another device.",
            code="E407",
        )
    python = found.python
    table: dict[str, Any] = {
        "title": found.model or found.os or f"A device with {found.cpu}",
        "target": target,
        "arch": found.arch,
        "cpu": found.cpu or found.arch,
        "isa": list(found.isa),
        "cores": found.cores,
        "memory": found.memory or 1 << 30,
        "os": found.os,
        "glibc": found.glibc,
        "python": ".".join(map(str, python.version[:2])) if python else "",
        "threads": min(found.big, found.cores),
    }
    if found.cores <= FEW_CORES:
        table["spinning"] = False
    if found.memory is not None and found.memory <= LITTLE_MEMORY:
        table["arena"] = False
    table["source"] = f"probed by `edgec devices probe` on {date}: Linux {found.kernel}, {found.model or found.cpu}"
    table["engines"] = engines(found)
    return {key: value for key, value in table.items() if value != ""}


def engines(found: Probe) -> dict[str, str]:
    """Version ranges of the engines that may run there: those of the nearest generic board, as this system can have.

    An engine whose pinned library needs a newer glibc stays only where pip installed it there.
    """
    from edgec_toolchains import wheelhouse

    ranges = dict(_nearest(found).engines)
    python = found.python
    packages = python.packages if python else {}
    here = {"onnxruntime": packages.get("onnxruntime"), "litert": packages.get("ai-edge-litert")}
    for engine in [*ranges]:
        if engine not in wheelhouse.names() or not found.glibc or here.get(engine):
            continue
        if older(found.glibc, wheelhouse.pin(engine, found.arch).glibc):
            limit, pythons = OLDER.get(engine, ("", {}))
            if limit:
                ranges[engine] = narrowed(ranges[engine], pythons.get(python.version[:2], limit) if python else limit)
            else:
                del ranges[engine]
    return ranges


def narrowed(text: str, limit: str) -> str:
    """A version range with a lower upper end: (">=1.18,<1.33", "<1.24") -> ">=1.18,<1.24"."""
    return ",".join([*(part for part in text.split(",") if not part.startswith("<")), limit])


def older(have: str, need: str) -> bool:
    """True where a version of numbers with dots is below another."""
    return [int(part) for part in have.split(".")] < [int(part) for part in need.split(".")]


def _nearest(found: Probe) -> Board:
    """The generic board of this architecture with the most features, all of which the device has."""
    from edgec_targets.registry import boards

    fits = [
        board
        for name, board in boards().items()
        if name.startswith("generic-") and board.arch == found.arch and set(board.isa) <= set(found.isa)
    ]
    everyone = [board for name, board in boards().items() if name.startswith("generic-") and board.arch == found.arch]
    return max(fits, key=lambda board: len(board.isa)) if fits else min(everyone, key=lambda board: len(board.isa))


def toml(table: Mapping[str, Any], comments: tuple[str, ...] = ()) -> str:
    """The file's text; `comments` stand at its top."""
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    for key, value in table.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key} = {_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *(f"{name} = {_value(item)}" for name, item in value.items())]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:_}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON's strings are TOML's basic strings, but for the characters above U+FFFF, which stay as they are, and DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007F")
