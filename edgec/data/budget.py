"""What the user allows the metric to lose: `0.5%`, `0.5pt`, `0.005`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from edgec.errors import UsageError

_FORM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|pts?|)", re.ASCII)


@dataclass(frozen=True)
class Budget:
    """The largest drop of a metric (higher is better) that is still accepted.

    Attributes:
        max_drop: a fraction: of the float model's value when `relative`, else of the metric's own unit. `0.5%` is
            0.005 relative; `0.5pt` and `0.005` are 0.005 absolute (a point is a hundredth of the metric).
        relative: whether `max_drop` is relative to the float model's value.
    """

    max_drop: float
    relative: bool = False

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `0.5%` (relative), `0.5pt` (points, absolute) or `0.005` (absolute).

        Raises:
            UsageError: when the text is none of these, or allows more than everything.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"the budget '{text}' is not a drop",
                "a drop is 0.5% (relative to the float model), 0.5pt (points) or 0.005 (absolute)",
                "use for example --max-drop 0.5%",
                code="E210",
            )
        number, unit = float(match[1]), match[2]
        budget = cls(number if unit == "" else number / 100, relative=unit == "%")
        if budget.max_drop > 1:
            fix = f"say {number:g}% or {number:g}pt" if unit == "" else "use a drop of at most 100%"
            raise UsageError(f"the budget '{text}' allows more than everything", "it is over 100 %", fix, code="E210")
        return budget

    def floor(self, float_value: float) -> float:
        """The lowest value still accepted, given the float model's."""
        return float_value - self.max_drop * (abs(float_value) if self.relative else 1.0)

    def allows(self, float_value: float, value: float) -> bool:
        """Whether `value` is within the budget; a tie is (up to 1e-9, the rounding of a mean); NaN never is."""
        return math.isfinite(value) and value >= self.floor(float_value) - 1e-9

    def __str__(self) -> str:
        return f"{self.max_drop * 100:g}{'%' if self.relative else 'pt'}"
