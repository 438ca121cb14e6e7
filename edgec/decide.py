"""What a board gets: the budget decides, then the measured speed; every decision carries its reason.

Pure functions over measured values, so that a recipe can be replayed without measuring again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgec.data import Budget
from edgec.errors import BudgetError
from edgec.measure.accuracy import Accuracy

if TYPE_CHECKING:
    from edgec.quantize.search import Reading

DEFAULT_DROP = "1%"
NOT_SLOWER = 1.0  # integers must take at most this part of the float payload's time to be kept on a measured board
FLOAT = "float32"


@dataclass(frozen=True)
class Confirmed:
    """What the samples that nothing was chosen on say of an artifact; `confidence` as asked."""

    reading: Reading
    confidence: float | None = None

    def within(self, budget: Budget) -> bool:
        """Whether they keep the budget."""
        return self.reading.keeps(budget, self.confidence)

    def __str__(self) -> str:
        reading = self.reading
        words = f"{reading.metric} {reading.value:.4g} against {reading.float_value:.4g} in float"
        bound = reading.bound(self.confidence) if self.confidence is not None else None
        sure = (
            f", a drop of at most {100 * bound:.2g}pt with {self.confidence:g} confidence" if bound is not None else ""
        )
        return f"{words} on the {reading.n} samples kept apart to confirm{sure}"


@dataclass(frozen=True)
class Option:
    """A payload that a board could get.

    Attributes:
        precision: "float32", "int8" or another form.
        engine: who runs it.
        accuracy: on the user's data; None: it could not be measured.
        size: bytes of its files.
        time_ratio: its time over that of the first engine's float32, measured on this very board; None: not measured.
        confirmed: what samples kept apart say, where there are some: then they alone count.
    """

    precision: str
    engine: str
    accuracy: Accuracy | None
    size: int = 0
    time_ratio: float | None = None
    confirmed: Confirmed | None = None

    def within(self, max_drop: str | None) -> bool:
        """Whether it keeps the budget; what could not be measured does not."""
        budget = Budget.parse(max_drop or DEFAULT_DROP)
        if self.confirmed is not None:
            return self.confirmed.within(budget)
        return self.accuracy is not None and budget.allows(self.accuracy.float_value, self.accuracy.value)

    @property
    def compared(self) -> str:
        """The measured value beside the float one, in words."""
        if self.confirmed is not None:
            return str(self.confirmed)
        found = self.accuracy
        if found is None:
            return "its accuracy could not be measured"
        return f"{found.metric} {found.value:.4g} against {found.float_value:.4g} in float (n = {found.n})"


@dataclass(frozen=True)
class Decision:
    """The precision that a board's payloads have, and why, in a sentence.

    `engines` are those that get a payload, in order of preference. `fallback` is what CPUs get that would saturate the
    int8 payload: its seven-bit variant or float32; empty where there are no such CPUs.
    """

    board: str
    precision: str
    why: str
    fallback: str = ""
    engines: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As recipe.json holds it."""
        made = {"board": self.board, "precision": self.precision, "why": self.why, "engines": list(self.engines)}
        return {**made, "fallback": self.fallback} if self.fallback else made

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """The inverse of `as_dict`."""
        return cls(**{**values, "engines": tuple(values["engines"])})


def decide(board: str, options: Sequence[Option], *, precision: str, max_drop: str | None, note: str = "") -> Decision:
    """Pick what `board` gets.

    Args:
        board: its name, for the words.
        options: what was built, the preferred precision and engine first; float32 among them unless another was asked
            for by name.
        precision: "auto", or the one asked for by name.
        max_drop: the budget; None: 1 % where nothing was asked for by name, else none.
        note: why there are no integers, where there are none.

    Raises:
        BudgetError: a precision was asked for by name with a budget that no engine's payload keeps.
    """
    others = [o for o in options if o.precision != FLOAT]
    if not others:
        return _with_engines(Decision(board, FLOAT, note or "float32 was asked for"), options)
    if precision != "auto":
        return _named(board, others, max_drop)
    kept = [o for o in others if o.within(max_drop)]
    if not kept:
        first = others[0]
        return _float(board, options, f"{first.precision} left out: {_words(first, max_drop)}")
    if any(o.time_ratio is not None for o in kept):
        return _fastest(board, options, kept, max_drop)
    floats = [o.size for o in options if o.precision == FLOAT and o.size]
    smaller = [o for o in kept if not floats or not o.size or o.size <= floats[0]]
    if not smaller:
        why = f"its file is {kept[0].size / floats[0]:.2f} × float32's, and speed there can't be measured"
        return _float(board, options, f"{kept[0].precision} left out: {why}; {_words(kept[0], max_drop)}")
    first = smaller[0]
    decision = Decision(board, first.precision, f"{_words(first, max_drop)}; speed there not measured")
    return _with_engines(decision, smaller)


def _named(board: str, others: Sequence[Option], max_drop: str | None) -> Decision:
    """A precision that was asked for by name: with a budget that is a contract."""
    name, first = others[0].precision, others[0]
    if max_drop is None and first.confirmed is None:
        why = f"{name} was asked for, without a budget; {first.compared}"
        return _with_engines(Decision(board, name, why), others)
    kept = [o for o in others if o.within(max_drop)]
    if first.accuracy is None and not kept:
        raise BudgetError(
            f"whether {name} keeps the budget is not known",
            "There is no data to measure its accuracy on.",
            "Add --calib DATA (likeness to float) or --eval DATA (your metric), or leave out --max-drop.",
            code="E301",
        )
    if not kept:
        raise BudgetError(
            f"{name} does not keep the budget: {_words(first, max_drop)}",
            f"The model loses more in {name} than --max-drop allows.",
            "Allow more, keep layers in float (--exclude NODE), try --method histogram, or use --precision auto.",
            code="E301",
        )
    return _with_engines(Decision(board, name, f"{name} was asked for; {_words(kept[0], max_drop)}"), kept)


def _fastest(board: str, options: Sequence[Option], kept: Sequence[Option], max_drop: str | None) -> Decision:
    """On the board that was measured: the fastest that keeps the budget, alone."""
    floats = [o for o in options if o.precision == FLOAT and o.time_ratio is not None]
    best = min((o for o in kept if o.time_ratio is not None), key=_time)
    quickest = min((_time(o) for o in floats), default=NOT_SLOWER)
    if _time(best) > quickest:
        who = "float32's" if quickest == NOT_SLOWER else f"{min(floats, key=_time).engine}'s float32's"
        why = f"{best.precision} left out: {_time(best) / quickest:.2f} × {who} time on this machine"
        return _float(board, options, f"{why}; {_words(best, max_drop)}")
    speed = f"{1 / _time(best):.2f} × as fast as float32 on this machine"
    return Decision(board, best.precision, f"{_words(best, max_drop)}; {speed}", engines=(best.engine,))


def _float(board: str, options: Sequence[Option], why: str) -> Decision:
    floats = [o for o in options if o.precision == FLOAT]
    measured = [o for o in floats if o.time_ratio is not None]
    return _with_engines(Decision(board, FLOAT, why), [min(measured, key=_time)] if measured else floats)


def _time(option: Option) -> float:
    return option.time_ratio if option.time_ratio is not None else float("inf")


def _with_engines(decision: Decision, options: Sequence[Option]) -> Decision:
    """The engines whose payloads have the decided precision."""
    return replace(decision, engines=tuple(o.engine for o in options if o.precision == decision.precision))


def _words(option: Option, max_drop: str | None) -> str:
    kept = "within" if option.within(max_drop) else "over"
    return f"{option.compared}, {kept} the budget of {max_drop or DEFAULT_DROP}"


def fall_back(
    decision: Decision, narrow: Option | None, *, has_float: bool, precision: str, max_drop: str | None
) -> Decision:
    """Add to a decision for int8 what CPUs get that saturate eight-bit weights: `narrow` within the budget, or float32.

    Raises BudgetError where int8 was asked for by name with a budget, and `narrow` does not keep it.
    """
    unbound = precision == "int8" and max_drop is None and (narrow is None or narrow.confirmed is None)
    if narrow is not None and (unbound or narrow.within(max_drop)):
        words = f"CPUs without VNNI would saturate it and get seven-bit weights: {narrow.compared}"
        return replace(decision, fallback=narrow.precision, why=f"{decision.why}; {words}")
    if has_float:
        return replace(decision, fallback=FLOAT, why=f"{decision.why}; CPUs without VNNI would saturate it: float32")
    if narrow is None:
        return decision
    raise BudgetError(
        f"int8 does not keep the budget on CPUs without VNNI: {narrow.compared}",
        "They saturate eight-bit weights; with seven bits the model loses more than --max-drop allows.",
        "Allow more, name boards that have VNNI alone, or use --precision auto.",
        code="E301",
    )
