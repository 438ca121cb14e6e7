"""How many boards may be at risk, and when to halt.

Three rules, each of which a reader can check by hand:

1. The budget: of the boards of all waves so far, at most `limit` = max(1, tolerated × boards) may fail. A board may be
   tried only while those that failed and those that are being tried are fewer; so the budget can't be exceeded, however
   many are under way at once. Where it is reached, the rollout is halted.
2. Slow start: of a kind, no more boards are tried at once than were flashed well (at least one). A bundle that breaks a
   kind breaks one board at a time.
3. Evidence: of each kind, and of all, the likelihood ratio of the failures under higher rates against `tolerated`.
   Under any rate up to `tolerated` it is a supermartingale, so it ever exceeds 1/doubt with a chance of at most
   `doubt`, however often one looks (Ville's inequality; Wald 1945 for the ratio). Where it does, the rollout is halted
   long before the budget is reached.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from fractions import Fraction

HIGHER = (0.05, 0.1, 0.2, 0.35, 0.6, 0.99)  # failure rates that the evidence is for, alike


def evidence(failed: int, ok: int, tolerated: float) -> float:
    """How much likelier these outcomes are under higher failure rates than under `tolerated` (mean of the ratios)."""
    rates = [rate for rate in HIGHER if rate > tolerated]
    if not rates or not tolerated:
        return math.inf if failed and not tolerated else 0.0
    logs = [failed * math.log(r / tolerated) + ok * math.log((1 - r) / (1 - tolerated)) for r in rates]
    return sum(math.exp(min(700.0, log)) for log in logs) / len(rates)


class Budget:
    """Who may be tried now. Guards the counts; knows neither boards nor time.

    Attributes:
        limit: of this wave: boards that may fail.
        failed, at_risk: boards that did, and that are being tried now.
        why: why it is halted; empty while it is not.
    """

    def __init__(self, tolerated: Fraction, doubt: float, kinds: Mapping[str, int]) -> None:
        self.tolerated, self._bound = tolerated, (len(kinds) + 1) / doubt
        self.limit, self.failed, self.at_risk, self.why = 1, 0, 0, ""
        self._ok: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._trying: Counter[str] = Counter()
        self._waiting: dict[str, deque[Callable[[bool], bool]]] = {kind: deque() for kind in kinds}

    def wave(self, boards: int) -> None:
        """A wave begins: `boards` of all waves so far."""
        self.limit = max(1, boards * self.tolerated.numerator // self.tolerated.denominator)
        self._halt_where_due()
        self._wake()

    def ask(self, kind: str, answer: Callable[[bool], bool]) -> None:
        """Ask for one more board of a kind to be at risk: `answer(True)` now or later, `answer(False)` once halted.

        It returns whether the permit is still wanted.
        """
        if self.why:
            answer(False)
        elif self._may(kind) and not self._waiting[kind]:
            self._grant(kind, answer)
        else:
            self._waiting[kind].append(answer)

    def again(self, kind: str) -> None:
        """A board that was at risk when the host was killed still is."""
        self.at_risk += 1
        self._trying[kind] += 1

    def settle(self, kind: str, *, ok: bool, risked: bool) -> None:
        """A board came to its end; `risked` says whether it had been granted."""
        if risked:
            self.at_risk -= 1
            self._trying[kind] -= 1
        self.count(kind, ok=ok)
        self._halt_where_due()
        self._wake()

    def count(self, kind: str, *, ok: bool) -> None:
        """An outcome, perhaps of an earlier run."""
        if ok:
            self._ok[kind] += 1
        else:
            self._bad[kind] += 1
            self.failed += 1

    def halt(self, why: str) -> None:
        """No board more: all who wait are told."""
        self.why = self.why or why
        self._wake()

    def _may(self, kind: str) -> bool:
        return self.failed + self.at_risk < self.limit and self._trying[kind] < max(1, self._ok[kind])

    def _grant(self, kind: str, answer: Callable[[bool], bool]) -> None:
        if answer(True):
            self.again(kind)

    def _wake(self) -> None:
        for kind, waiting in self._waiting.items():
            while waiting and (self.why or self._may(kind)):
                if self.why:
                    waiting.popleft()(False)
                else:
                    self._grant(kind, waiting.popleft())

    def _halt_where_due(self) -> None:
        if self.why:
            return
        if self.failed >= self.limit:
            self.why = f"{_boards(self.failed)} failed: that is all that may fail in this wave"
            return
        for kind, bad, ok in [(kind, bad, self._ok[kind]) for kind, bad in self._bad.items()] + [
            ("", self.failed, self._ok.total())
        ]:
            if bad > 1 and evidence(bad, ok, float(self.tolerated)) >= self._bound:
                named = f" of kind {kind}" if kind else ""
                self.why = f"{bad:,} of {_boards(bad + ok)}{named} failed: more than {self._percent} explain"
                return

    @property
    def _percent(self) -> str:
        return f"{float(self.tolerated) * 100:g} %"


def _boards(count: int) -> str:
    return f"{count:,} board{'s' if count != 1 else ''}"
