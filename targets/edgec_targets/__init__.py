"""What edgec compiles for: boards as data, targets as an ordered list of emitters.

board("rpi5"), board("./mine.toml"), boards()          a kind of hardware
target("arm_cpu"), target_names(), targets()           a family of boards
edgec_targets.check.check(model, board("rpi5"))         what the board can't run, and why
"""

from edgec_targets.registry import board, boards, target, target_names, targets
from edgec_targets.types import Board, Built, Emitter, Problem, Target

__all__ = ["Board", "Built", "Emitter", "Problem", "Target", "board", "boards", "target", "target_names", "targets"]
