"""Many devices: flash them at once (`many`), or in waves that stop where boards fail (`rollout`).

Neither knows SSH: both take an `async def flash_one(board, attempt)` that does one board, so that the simulation of
100,000 boards (`simulate`) runs the very same code.
"""

from edgec.flash.fleet.boards import Attempt, Board, FlashOne, Outcome
from edgec.flash.fleet.history import Bundle, History
from edgec.flash.fleet.many import flash_many
from edgec.flash.fleet.policy import Policy, Share
from edgec.flash.fleet.rollout import Rollout
from edgec.flash.fleet.summary import Summary

__all__ = [
    "Attempt",
    "Board",
    "Bundle",
    "FlashOne",
    "History",
    "Outcome",
    "Policy",
    "Rollout",
    "Share",
    "Summary",
    "flash_many",
]
