"""What this machine is: recorded with every measurement, since an int8 answer and a time belong to a CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# The features that change which kernels an engine picks; the rest of /proc/cpuinfo is noise in a report.
TELLING = {
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "amx_int8", "asimd", "asimddp", "asimdhp", "fphp", "i8mm", "bf16", "sve", "sve2",
}  # fmt: skip
EXACT_INT8 = {"avx512_vnni", "avx_vnni", "asimd"}
"""Any of these: u8 × s8 products are summed without saturation. AVX2 alone saturates (vpmaddubsw)."""


@dataclass(frozen=True)
class Machine:
    """Architecture, CPU model, telling ISA features (Linux's names, sorted) and number of cores for this process."""

    arch: str
    cpu: str
    isa: tuple[str, ...]
    cores: int

    @property
    def exact_int8(self) -> bool:
        """Whether integer kernels give here what they give on ARM and on x86 with VNNI (docs/quantization.md)."""
        return bool(EXACT_INT8 & set(self.isa))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "isa": list(self.isa)}


def this_machine() -> Machine:
    """This machine's description; unknown parts are empty, never guessed."""
    from edgec_targets import machine

    facts = machine.facts()
    return Machine(facts["arch"], facts["cpu"], tuple(sorted(TELLING & set(facts["isa"]))), facts["cores"])
