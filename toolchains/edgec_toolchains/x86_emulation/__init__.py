"""An x86-64 CPU without VNNI on any x86-64 machine: QEMU's user mode runs this very Python and onnxruntime.

QEMU's TCG has AVX2 and FMA since 7.2, no AVX-512 and no VNNI: onnxruntime then takes the kernels that a Haswell or
Zen 2 takes (vpmaddubsw, which saturates). The answers are those of QEMU's emulation, not of silicon.

    emulator = find() or fetch(Path("build/qemu"))
    made = run(emulator, model_bytes, [{"input": array}])
    made.answers, made.isa
"""

from edgec_toolchains.x86_emulation.qemu import Answers, fetch, find, run, version

__all__ = ["Answers", "fetch", "find", "run", "version"]
