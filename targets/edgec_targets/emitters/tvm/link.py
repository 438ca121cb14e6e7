"""Linking: kernels, driver and weights into one shared library, by the compiler that the package `ziglang` brings.

It links for any architecture and any glibc without files of the target's system. The same inputs give the same bytes:
no build id, no symbols, no paths, and everything is made under names that don't depend on the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edgec_targets.emitters.tvm.refused import Refused

_HERE = Path(__file__).parent
_EXPORTS = "{ global: edgec_tvm_*; local: *; };\n"
_WEIGHTS = """.section .rodata.model_weights,"a",%progbits
.balign 64
.globl model_weights
.hidden model_weights
model_weights:
.incbin "weights.bin"
.section .note.GNU-stack,"",%progbits
"""
_SECONDS = 300


def link(folder: Path, objects: list[str], tables: str, weights: bytes, *, arch: str, glibc: str) -> bytes:
    """The library's bytes. `objects` are files in `folder`, where everything else is written too. Raises Refused."""
    (folder / "model.c").write_text(tables)
    (folder / "weights.bin").write_bytes(weights)
    (folder / "weights.s").write_text(_WEIGHTS)
    (folder / "exports").write_text(_EXPORTS)
    for name in ("driver.c", "driver.h"):
        (folder / name).write_bytes((_HERE / name).read_bytes())
    command = [
        sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-gnu.{glibc}", "-O2", "-fPIC", "-shared", "-s",
        "-g0", "-fno-sanitize=all", "-fvisibility=hidden", "-Wl,--build-id=none", "-Wl,--version-script=exports",
        "-Wl,-z,relro,-z,now", "-o", "model.so", "driver.c", "model.c", "weights.s", *objects, "-lm", "-lpthread",
    ]  # fmt: skip
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "zig")}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode:
        raise Refused("", "", f"the compiled kernels can't be linked: {' '.join(done.stderr.split())[-300:]}")
    return (folder / "model.so").read_bytes()
