"""Which precision a board gets: the budget decides, then the measured speed; every decision carries its reason.

Pure functions over measured values, so that a recipe can be replayed without measuring again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgec.data import Budget
from edgec.errors import BudgetError
from edgec.measure.accuracy import Accuracy

if TYPE_CHECKING:
    from edgec.quantize.search import Reading

DEFAULT_DROP = "1%"
NOT_SLOWER = 1.0  # int8 must take at most this part of the float payload's time to be kept on a measured board


@dataclass(frozen=True)
class Decision:
    """The precision that a board's payload has, and why, in a sentence.

    `fallback` is what its CPUs get that would saturate the int8 payload: its seven-bit variant or float32; empty where
    there are no such CPUs.
    """

    board: str
    precision: str
    why: str
    fallback: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As recipe.json holds it."""
        made = {"board": self.board, "precision": self.precision, "why": self.why}
        return {**made, "fallback": self.fallback} if self.fallback else made


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


def within(accuracy: Accuracy | None, max_drop: str | None, confirmed: Confirmed | None = None) -> bool:
    """Whether the accuracy keeps the budget; what could not be measured does not. Samples kept apart decide alone."""
    budget = Budget.parse(max_drop or DEFAULT_DROP)
    if confirmed is not None:
        return confirmed.within(budget)
    return accuracy is not None and budget.allows(accuracy.float_value, accuracy.value)


def compared(accuracy: Accuracy | None) -> str:
    """The measured value beside the float one, in words."""
    if accuracy is None:
        return "its accuracy could not be measured"
    return f"{accuracy.metric} {accuracy.value:.4g} against {accuracy.float_value:.4g} in float (n = {accuracy.n})"


def decide(
    board: str,
    *,
    precision: str,
    max_drop: str | None,
    accuracies: Mapping[str, Accuracy | None],
    time_ratio: float | None,
    size_ratio: float | None = None,
    note: str = "",
    confirmed: Mapping[str, Confirmed] | None = None,
) -> Decision:
    """Pick `board`'s precision among those built.

    `accuracies`: precision -> accuracy, of those built. `time_ratio`: int8 time over float time, measured on this very
    board, or None where it can't be measured here. `size_ratio`: int8's bytes over float32's. `note`: why int8 could
    not be built, if it could not. `confirmed`: precision -> what samples kept apart say, where there are some.
    Raises BudgetError where int8 was asked for by name with a budget that it does not keep.
    """
    if "int8" not in accuracies:
        return Decision(board, "float32", note or "float32 was asked for")
    apart = (confirmed or {}).get("int8")
    kept = within(accuracies["int8"], max_drop, apart)
    values = str(apart or compared(accuracies["int8"]))
    words = f"{values}, {'within' if kept else 'over'} the budget of {max_drop or DEFAULT_DROP}"
    if precision == "int8" and max_drop is None and apart is None:
        return Decision(board, "int8", f"int8 was asked for, without a budget; {values}")
    if precision == "int8":
        if not kept:
            raise BudgetError(
                f"int8 does not keep the budget: {words}",
                "The model loses more in int8 than --max-drop allows.",
                "Allow more, keep layers in float (--exclude NODE), try --method histogram, or use --precision auto.",
                code="E301",
            )
        return Decision(board, "int8", f"int8 was asked for; {words}")
    if not kept:
        return Decision(board, "float32", f"int8 left out: {words}")
    if time_ratio is not None and time_ratio > NOT_SLOWER:
        return Decision(board, "float32", f"int8 left out: {time_ratio:.2f} × float32's time on this machine; {words}")
    if time_ratio is None and size_ratio is not None and size_ratio > 1:
        why = f"its file is {size_ratio:.2f} × float32's, and speed there can't be measured"
        return Decision(board, "float32", f"int8 left out: {why}; {words}")
    speed = f"{1 / time_ratio:.2f} × as fast as float32 on this machine" if time_ratio else "speed there not measured"
    return Decision(board, "int8", f"{words}; {speed}")


def fall_back(
    decision: Decision,
    narrow: str,
    accuracies: Mapping[str, Accuracy | None],
    *,
    precision: str,
    max_drop: str | None,
    confirmed: Mapping[str, Confirmed] | None = None,
) -> Decision:
    """Add to a decision for int8 what CPUs get that saturate eight-bit weights: `narrow` within the budget, or float32.

    Raises BudgetError where int8 was asked for by name with a budget, and `narrow` does not keep it.
    """
    measured, apart = accuracies.get(narrow), (confirmed or {}).get(narrow)
    values = str(apart or compared(measured))
    words = f"CPUs without VNNI would saturate it and get seven-bit weights: {values}"
    unbound = precision == "int8" and max_drop is None and apart is None
    if narrow in accuracies and (unbound or within(measured, max_drop, apart)):
        return replace(decision, fallback=narrow, why=f"{decision.why}; {words}")
    if "float32" in accuracies:
        return replace(
            decision, fallback="float32", why=f"{decision.why}; CPUs without VNNI would saturate it: float32"
        )
    if narrow not in accuracies:
        return decision
    raise BudgetError(
        f"int8 does not keep the budget on CPUs without VNNI: {values}",
        "They saturate eight-bit weights; with seven bits the model loses more than --max-drop allows.",
        "Allow more, name boards that have VNNI alone, or use --precision auto.",
        code="E301",
    )
