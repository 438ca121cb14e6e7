"""What this machine is: recorded with every measurement, since an int8 answer and a time belong to a CPU."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

# The features that change which kernels an engine picks; the rest of /proc/cpuinfo is noise in a report.
TELLING = {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2",
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Architecture, CPU model, telling ISA features (Linux's names, sorted) and number of logical cores."""

    arch: str
    cpu: str
    isa: tuple[str, ...]
    cores: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "isa": list(self.isa)}


def this_machine(cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
    """Read this machine's description; unknown parts are empty, never guessed."""
    import os

    model, features = "", set[str]()
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                features |= set(value.split())
            elif key.strip() in ("model name", "Model") and not model:
                model = value.strip()
    return Machine(platform.machine(), model or platform.processor(), tuple(sorted(features & TELLING)), os.cpu_count() or 1)
