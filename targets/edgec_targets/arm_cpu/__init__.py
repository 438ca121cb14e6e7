"""64-bit Arm CPUs under Linux: a payload for each engine that may win, threads and memory settings from the board."""

from __future__ import annotations

from collections.abc import Sequence

from edgec_targets import profiles
from edgec_targets.emitters.litert import EMITTER as LITERT
from edgec_targets.emitters.litert import alike
from edgec_targets.emitters.ncnn import EMITTER as NCNN
from edgec_targets.emitters.onnxruntime import EMITTER as ONNXRUNTIME
from edgec_targets.emitters.tvm import EMITTER as TVM
from edgec_targets.types import Board, Built, Target


def rank(board: Board, several: Sequence[Built]) -> Sequence[str]:
    """Engines by the instructions that their profiles predict for these very payloads (docs/arm.md), the fewest first.

    Engines without a profile come behind, in the emitters' order. The board's own measurement (`edgec-rt bench
    --choose`) has the last word everywhere.
    """
    return profiles.rank(board, several, [emitter.name for emitter in TARGET.emitters])


TARGET = Target(
    name="arm_cpu",
    title="64-bit Arm CPU under Linux",
    emitters=(ONNXRUNTIME, LITERT, TVM, NCNN),
    precisions=("int8", "float32"),
    alike=alike,
    rank=rank,
)
