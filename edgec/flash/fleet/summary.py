"""How a rollout stands: from its end, or from the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgec.flash.fleet import history as kept
from edgec.flash.fleet.boards import Board, Outcome
from edgec.flash.fleet.history import Bundle, History, Record


@dataclass(frozen=True)
class Summary:
    """How a rollout stands.

    Attributes:
        state: "complete" (each board came to its end), "waiting" (all but unreachable ones), "halted".
        why: it was halted.
        outcomes: of every board that was tried, now or earlier, in the boards' order.
        untouched: boards that were not.
        resumed: whether an earlier run had begun it.
    """

    state: str
    why: str
    outcomes: list[Outcome]
    untouched: list[Board]
    resumed: bool

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "state": self.state, "why": self.why, "resumed": self.resumed,
            "devices": [outcome.as_dict() for outcome in self.outcomes],
            "untouched": [board.name for board in self.untouched],
        }  # fmt: skip


def standing(boards: Sequence[Board], bundle: Bundle, history: History) -> Summary | None:
    """How the newest rollout of a bundle to these boards stands; None where there was none."""
    record = history.last(kept.key(bundle, boards))
    return of(record, boards, history, True) if record else None


def of(record: Record, boards: Sequence[Board], history: History, resumed: bool) -> Summary:
    """A rollout of the history, with what is known of each board."""
    outcomes = history.outcomes(record.id, boards)
    return Summary(
        record.state, record.why, [outcomes[b.name] for b in boards if b.name in outcomes],
        [b for b in boards if b.name not in outcomes], resumed,
    )  # fmt: skip
