"""The ARM cores that can be emulated: what QEMU is told, and what /proc/cpuinfo says to the guest."""

from __future__ import annotations

from dataclasses import dataclass

_V80 = ("fp", "asimd", "evtstrm", "aes", "pmull", "sha1", "sha2", "crc32", "cpuid")
_V82 = (*_V80, "atomics", "fphp", "asimdhp", "asimdrdm", "lrcpc", "dcpop", "asimddp")
_V86 = (*_V82, "jscvt", "fcma", "dit", "uscat", "ilrcpc", "flagm", "sb", "asimdfhm", "i8mm", "bf16")


@dataclass(frozen=True)
class CoreModel:
    """A kind of core.

    Attributes:
        name: as it is asked for.
        title: for people, with boards that have it.
        qemu: value of QEMU's -cpu.
        part: CPU part number (MIDR_EL1) as /proc/cpuinfo shows it. It must fit `qemu`: engines choose kernels by it,
            and a newer core's kernels die with SIGILL on an older one.
        features: the `Features` line of /proc/cpuinfo.
    """

    name: str
    title: str
    qemu: str
    part: int
    features: tuple[str, ...]

    def cpuinfo(self, processors: int = 4) -> str:
        """The text of /proc/cpuinfo, as Linux 6 writes it for such a core."""
        return "".join(
            f"processor\t: {n}\nBogoMIPS\t: 108.00\nFeatures\t: {' '.join(self.features)}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {self.part:#05x}\nCPU revision\t: 3\n\n"
            for n in range(processors)
        )


CORES = {
    model.name: model
    for model in (
        CoreModel("cortex-a53", "Cortex-A53 (Armv8.0; Raspberry Pi 3, Zero 2 W)", "cortex-a53", 0xD03, _V80),
        CoreModel("cortex-a72", "Cortex-A72 (Armv8.0; Raspberry Pi 4)", "cortex-a72", 0xD08, _V80),
        CoreModel("cortex-a76", "Cortex-A76 (Armv8.2, dot products; Raspberry Pi 5)", "cortex-a76", 0xD0B, _V82),
        # QEMU's "max" without the extensions that no board has: plain "max" has SVE of 512 bits.
        CoreModel("i8mm", "Armv8.6 with i8mm, no SVE (as Cortex-A710)", "max,sve=off,sme=off", 0xD47, _V86),
    )
}
"""Name -> core."""
