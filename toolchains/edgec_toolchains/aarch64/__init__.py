"""ARM cores on any Linux machine: QEMU's user mode, a small Debian of aarch64, and instructions counted by class.

    from edgec_toolchains import aarch64
    a76 = aarch64.core("cortex-a76")          # sets itself up under a cache folder: seconds, no root
    ran = a76.python(["-c", "print(40 + 2)"])
    ran.stdout, ran.counts.instructions

Instructions are the same from run to run, so they show a regression of half a percent, which kernels ran (`dot`,
`mmla`) and which of two engines does less. They are not time: caches, memory and out-of-order execution are not in
them.
"""

from edgec_toolchains.aarch64.bed import VARIABLE, Bed, prepare
from edgec_toolchains.aarch64.cores import CORES, CoreModel
from edgec_toolchains.aarch64.counts import Counts, Region
from edgec_toolchains.aarch64.emulator import Core, Ran, core
from edgec_toolchains.aarch64.inference import Inference, infer

__all__ = [
    "CORES",
    "VARIABLE",
    "Bed",
    "Core",
    "CoreModel",
    "Counts",
    "Inference",
    "Ran",
    "Region",
    "core",
    "infer",
    "prepare",
]
