"""A board's CPU as the compiler sees it: LLVM's name and features, what the code will need, vector registers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edgec_runtime.errors import UnsupportedError
from edgec_targets.emitters.tvm.tiles import Vectors
from edgec_targets.types import Board

_V3 = ("abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
"""x86-64-v3 and -v4 (psABI) in the words of /proc/cpuinfo."""
_NEON_ALONE = ("+neon", "-lse", "-rcpc", "-rdm", "-dotprod", "-fullfp16", "-crc", "-aes", "-sha2")
"""Float kernels gain nothing by the rest, and a payload without it runs on each Armv8 core."""
_OLDEST_GLIBC = {"aarch64": "2.17", "x86_64": "2.17"}


@dataclass(frozen=True)
class Cpu:
    """`tune` and `features` are LLVM's -mcpu and -mattr; `isa` what /proc/cpuinfo must list."""

    arch: str
    tune: str
    features: tuple[str, ...]
    isa: tuple[str, ...]
    vectors: Vectors
    glibc: str

    @property
    def target(self) -> dict[str, object]:
        """TVM's target."""
        return {"kind": "llvm", "mtriple": f"{self.arch}-linux-gnu", "mcpu": self.tune, "mattr": list(self.features),
                "num-cores": 1}  # fmt: skip


def cpu(board: Board) -> Cpu:
    """What to compile for. Raises UnsupportedError (E432, exit 4) for an architecture that is neither of the two."""
    glibc = board.glibc or _OLDEST_GLIBC.get(board.arch, "")
    if board.arch == "aarch64":
        core = re.search(r"Cortex-(A\d+)", board.cpu)
        known = ("a35", "a53", "a55", "a57", "a72", "a73", "a75", "a76", "a77", "a78")
        name = core.group(1).lower() if core else ""
        tune = f"cortex-{name}" if name in known else "generic"
        return Cpu("aarch64", tune, _NEON_ALONE, ("asimd",), Vectors(4, 32, by_lane=True), glibc)
    if board.arch == "x86_64":
        if set(_V4) <= set(board.isa):
            return Cpu("x86_64", "x86-64-v4", (), _V4, Vectors(16, 32, by_lane=False), glibc)
        if set(_V3) <= set(board.isa):
            return Cpu("x86_64", "x86-64-v3", (), _V3, Vectors(8, 16, by_lane=False), glibc)
        return Cpu("x86_64", "x86-64", (), (), Vectors(4, 16, by_lane=False), glibc)
    raise UnsupportedError(
        f"no tvm payload for {board.arch}", "Kernels are compiled for aarch64 and x86_64.", "Use another engine.",
        code="E432",
    )  # fmt: skip
