"""Counting a library's kernels on an emulated Arm core, where the package `edgec_toolchains` has one ready."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from edgec_runtime.errors import Error

VARIABLE = "EDGEC_AARCH64"
"""Names the folder of the emulated cores, see `edgec_toolchains.aarch64`."""
SECONDS = 60

_GUEST = """
import ctypes, sys
sys.path.insert(0, sys.argv[3])
from marks import mark
library = ctypes.CDLL(sys.argv[1])
library.edgec_tvm_open.restype = ctypes.c_void_p
model = ctypes.c_void_p(library.edgec_tvm_open(1))
for step in range(int(sys.argv[2])):
    library.edgec_tvm_step(model, step)
    mark(1)
    library.edgec_tvm_step(model, step)
    mark(2)
"""
_STEP = 2


def core(cpu: str) -> str:
    """The emulated core that is nearest to a board's CPU; "" where there are none on this machine.

    Only cores that are set up already (`make test-arm`, `edgec bench --emulate`): a compile downloads nothing.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or not (Path(folder) / "bed.json").is_file() or find_spec("edgec_toolchains") is None:
        return ""
    for name, found in (("A53", "cortex-a53"), ("A72", "cortex-a72"), ("8.6", "i8mm"), ("A7", "cortex-a76"),
                        ("8.2", "cortex-a76")):  # fmt: skip
        if name in cpu:
            return found
    return "cortex-a53"


def steps(library: Path, count: int, core: str) -> list[int] | None:
    """Instructions of each step of a library that driver.c is in; None where the emulator fails or takes too long."""
    from edgec_toolchains import aarch64

    guest = Path(aarch64.__file__).with_name("guest")
    try:
        ran = aarch64.core(core).python(["-c", _GUEST, str(library), str(count), str(guest)], timeout=SECONDS)
    except Error:
        return None
    found = [region.counts.instructions for region in ran.regions if region.tag == _STEP]
    return found if len(found) == count else None
