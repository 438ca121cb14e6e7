"""The golden vectors of a bundle: inputs, the float reference, and what each chosen payload answered here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgec.bundle import golden as room
from edgec.measure.accuracy import Run, overall_sqnr
from edgec.measure.engine import executable
from edgec.measure.machine import Machine
from edgec.stages import emulate
from edgec.stages.emit import Candidate
from edgec.stages.inputs import Inputs

MOST = 4  # golden samples; fewer where they don't fit
# The least SQNR, in dB, between a payload's answers on a device and those it gave here. Float kernels differ in the
# order of sums: below 60 dB something else is wrong. Two optimisation levels of ONNX Runtime differ by 25.9 dB on the
# same int8 EfficientNet-Lite0 (rounding flips cascade); saturating kernels fall to 9 dB: 20 tells them apart.
# One rounding to float16's 11 bits is at 66 dB; some ARM cores add up in float16 what others add in float32.
LEAST = {"float32": 60.0, "half": 40.0, "int8": 20.0}
MARGIN = 6.0  # dB below what was measured here, where a payload can't be compared with its own run


@dataclass(frozen=True)
class Vectors:
    """What goes into the bundle: the room's Golden, and for each payload id its file and manifest entry.

    `emulated` are the CPUs beside this machine's own on which payloads were proven, as `run_on` has them.
    """

    golden: room.Golden
    files: Mapping[str, bytes]
    entries: Mapping[str, dict[str, Any] | None]
    emulated: Sequence[dict[str, Any]] = ()


def take(
    payloads: Mapping[str, Candidate],
    reference: Run,
    outputs: Sequence[str],
    inputs: Inputs,
    machine: Machine,
    seed: int,
    own_way: Collection[str] = (),
) -> Vectors:
    """Golden vectors for the chosen payloads (by id), within the size that the format allows.

    Those of `own_way` (digests) round on the way what others keep, and not everywhere alike: they are held against the
    float model.
    """
    feeds = inputs.samples[:MOST] if inputs.kind == "data" else inputs.checks
    sizes = [len(content) for c in payloads.values() for _, content in c.built.files.values()]
    distinct = {c.digest: c for c in payloads.values()}
    golden = room.make(
        feeds,
        lambda feed: dict(zip(outputs, reference(feed), strict=True)),
        kind=inputs.kind,  # type: ignore[arg-type]
        limit_bytes=room.limit(sizes),
        payloads=len(distinct),
        seed=seed,
    )
    if golden.kind == "none":
        return Vectors(golden, {}, dict.fromkeys(payloads))
    float_answers = [reference(feed) for feed in golden.feeds]
    files: dict[str, bytes] = {}
    given: dict[str, Any] = {}
    made: dict[str, dict[str, Any]] = {}
    for digest, candidate in distinct.items():
        numbers = "int8" if candidate.precision == "int8" else candidate.built.numbers
        if not candidate.runs_here:
            made[digest] = {"expected": "float_reference", "file": room.REFERENCE, "min_sqnr_db": LEAST[numbers]}
            continue
        with executable(candidate.built) as run:
            answers = given[digest] = [run(feed) for feed in golden.feeds]
        saturates = numbers == "int8" and not machine.exact_int8 and candidate.kind.board.arch != machine.arch
        if saturates or digest in own_way:
            # Its answers here are not the board's to the last bits. Hold the board against float.
            least = round(max(3.0, overall_sqnr(float_answers, answers) - MARGIN), 1)
            made[digest] = {"expected": "float_reference", "file": room.REFERENCE, "min_sqnr_db": least}
            continue
        name = f"golden/{candidate.built.engine}-{candidate.precision}-{len(files)}.bin"
        files[name] = golden.answers([dict(zip(outputs, map(np.asarray, a), strict=True)) for a in answers])
        made[digest] = {"expected": "run", "file": name, "min_sqnr_db": LEAST[numbers]}
    emulated = emulate.proofs(payloads, given, golden.feeds, LEAST["int8"])
    return Vectors(golden, files, {name: made[c.digest] for name, c in payloads.items()}, emulated)
