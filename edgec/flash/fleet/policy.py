"""How a rollout goes: the size of its waves, what it tolerates, how long it waits. `Share` reads `--canary`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from edgec.errors import UsageError

AT_ONCE = 64  # boards under way at a time: each is one SSH connection, about 1 MB of the host's memory
PATIENCE = 1800.0  # seconds after which an attempt is given up, whatever it waits for


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the fleet: `10%`, or a number of boards."""

    text: str
    of_all: Fraction | None
    count: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read `--canary`. Raises UsageError (E223)."""
        text = text.strip()
        if match := re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%", text, re.ASCII):
            part = Fraction(match[1]) / 100
            if 0 < part <= 1:
                return cls(text.replace(" ", ""), part, 0)
        elif re.fullmatch(r"\d{1,9}", text, re.ASCII) and int(text) > 0:
            return cls(str(int(text)), None, int(text))
        raise UsageError(
            f"--canary {text} is no part of a fleet", "", "Give a part (10%) or a number of boards (3).", code="E223"
        )

    def boards(self, fleet: int) -> int:
        """How many of `fleet` boards that is: at least one, at most all."""
        wanted = self.count if self.of_all is None else -(-fleet * self.of_all.numerator // self.of_all.denominator)
        return max(1, min(fleet, wanted))


@dataclass(frozen=True, slots=True)
class Policy:
    """What a rollout does.

    Attributes:
        canary: the first wave.
        second: the second wave, of all boards; skipped where the canaries are as many. The third is the rest.
        tolerated: the failure budget: this part of the boards of all waves so far, and at least one board, may fail.
            It is never exceeded; where it is reached, the rollout is halted.
        doubt: chance of halting early though boards fail no more often than `tolerated` (`budget.Evidence`).
        at_once: boards under way at a time.
        attempts: how often an unreachable board is tried in a round.
        backoff: seconds before the second attempt; doubled each time, at most `longest`.
        rounds: boards that stayed unreachable are tried again at the end, in so many rounds less one.
        patience: seconds for an attempt.
    """

    canary: Share
    second: Share = Share("10%", Fraction(1, 10), 0)
    tolerated: Fraction = Fraction(2, 100)
    doubt: float = 0.001
    at_once: int = AT_ONCE
    attempts: int = 3
    backoff: float = 5.0
    longest: float = 300.0
    rounds: int = 2
    patience: float = PATIENCE

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the attempt of this number (1, 2, …)."""
        return float(min(self.longest, self.backoff * 2.0 ** min(attempt - 1, 30)))
