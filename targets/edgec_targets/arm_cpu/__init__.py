"""64-bit Arm CPUs under Linux: a payload for each engine that may win, threads and memory settings from the board."""

from __future__ import annotations

from collections.abc import Sequence

from edgec_targets.emitters.litert import EMITTER as LITERT
from edgec_targets.emitters.litert import alike
from edgec_targets.emitters.onnxruntime import EMITTER as ONNXRUNTIME
from edgec_targets.types import Board, Target


def rank(board: Board, precision: str) -> Sequence[str]:
    """Engines by instructions per inference on emulated cores (benchmarks/arm.py), the fewest first.

    With dot products LiteRT needs the fewest for int8 and for float. Without them it depends on the model for int8, so
    the order stays; the board's own measurement (`edgec-rt bench --choose`) has the last word everywhere.
    """
    if precision == "int8" and "asimddp" not in board.isa:
        return (ONNXRUNTIME.name, LITERT.name)
    return (LITERT.name, ONNXRUNTIME.name)


TARGET = Target(
    name="arm_cpu",
    title="64-bit Arm CPU under Linux",
    emitters=(ONNXRUNTIME, LITERT),
    precisions=("int8", "float32"),
    alike=alike,
    rank=rank,
)
