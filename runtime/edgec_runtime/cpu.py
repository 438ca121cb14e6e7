"""What this machine's CPU is called: figures measured on one say nothing about another."""

from __future__ import annotations

import os

from edgec_runtime.machine import CPUINFO

# Arm's part numbers in /proc/cpuinfo (MIDR_EL1), of the cores on the boards that are known here.
ARM_PARTS = {
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510", 0xD47: "Cortex-A710",
}  # fmt: skip


def name(cpuinfo: str = CPUINFO) -> str:
    """The CPU's name, printable ASCII: "Cortex-A72", "Cortex-A55 + Cortex-A76", "Intel(R) N100"; else the architecture.

    Arm's kernels give part numbers for each core and no name.
    """
    try:
        with open(cpuinfo, "rb") as file:
            text = file.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        text = ""
    parts = set()
    for line in text.splitlines():
        label, _, value = line.partition(":")
        label, value = label.strip(), value.strip()
        if label == "model name" and value:
            return "".join(c for c in value if c.isascii() and c.isprintable())[:128]
        if label == "CPU part":
            parts.add(value)
    known = sorted(ARM_PARTS.get(int(part, 16), f"part {part}") for part in parts if _hex(part))
    return " + ".join(known) if known else os.uname().machine


def _hex(text: str) -> bool:
    return text.startswith("0x") and all(c in "0123456789abcdefABCDEF" for c in text[2:]) and len(text) > 2
