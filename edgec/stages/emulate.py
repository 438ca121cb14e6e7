"""The proof that an int8 payload for CPUs without VNNI answers there as it does here: run on an emulated one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgec.errors import GoldenError
from edgec.measure.accuracy import overall_sqnr
from edgec.quantize import portable
from edgec.stages.emit import Candidate
from edgec.stages.inputs import Feed
from edgec_toolchains import x86_emulation


def proofs(
    payloads: Mapping[str, Candidate], answers: Mapping[str, Sequence[Any]], feeds: Sequence[Feed], least: float
) -> list[dict[str, Any]]:
    """Entries for the manifest's `run_on`: the emulated CPU, where one is found and a payload needs the proof.

    Args:
        payloads: what ships, by id.
        answers: digest -> what each payload gave here, per feed.
        feeds: the golden inputs.
        least: SQNR in dB under which the answers are not the same.

    Raises GoldenError (exit 6) where the emulated CPU answers otherwise.
    """
    emulator = x86_emulation.find()
    open_to_all = {
        c.digest: c
        for c in payloads.values()
        if c.precision.startswith("int8")
        and c.engine == portable.ENGINE
        and c.kind.board.arch == "x86_64"
        and not c.built.isa
        and c.digest in answers
    }
    if emulator is None or not open_to_all or not feeds:
        return []
    made: list[dict[str, Any]] = []
    for digest, candidate in open_to_all.items():
        ((_, model),) = candidate.built.files.values()
        there = x86_emulation.run(emulator, model, feeds)
        here = [[np.asarray(a) for a in answer] for answer in answers[digest]]
        same = all(
            np.array_equal(a, b) for x, y in zip(here, there.answers, strict=True) for a, b in zip(x, y, strict=True)
        )
        found = float("inf") if same else overall_sqnr(here, there.answers)
        if found < least:
            raise GoldenError(
                f"the {candidate.name} payload answers otherwise on a CPU without VNNI: {found:.1f} dB",
                f"QEMU {x86_emulation.version(emulator)} emulated one with {', '.join(there.isa)}.",
                "Report it: seven-bit weights should give the same everywhere.",
            )
        name = f"QEMU {x86_emulation.version(emulator)} user mode, -cpu max (emulated)"
        entry = {"machine": "x86_64", "cpu": name, "isa": list(there.isa), "engine": candidate.built.engine}
        made.append({**entry, "version": there.onnxruntime})
    return made[:1]  # one machine, however many payloads ran on it
