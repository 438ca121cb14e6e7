"""recipe.json: what was asked and every decision that came from a measurement, so that a compile can be replayed.

Two compiles with the same recipe give the same bytes (the signature aside). Measured values stand in the recipe,
not in the code path: a replay takes them from here instead of measuring again. Model and data are named by digest
only, and matched with what the user hands in again; nothing named in a recipe is ever executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgec.bundle.envelope import canonical
from edgec.errors import BadInputError, UsageError
from edgec.request import Request
from edgec_runtime.bundle import strictjson

FORMAT = 1
MAX_RECIPE = 16 << 20  # bytes: an assignment with a cost table for 100,000 nodes fits

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """What `edgec rebuild` replays.

    Attributes:
        request: what was asked: boards, precision, budget, seed, ...
        source: the model: at least {"sha256": hex}, and what the front end did to it.
        data: calibration and evaluation data by digest.
        decisions: one record a board: which payload it gets and why, in order of preference.
        measured: what the decisions were taken from: assignment, candidates kept and dropped, cost table, accuracy.
        tools: name -> version of everything that can change the bytes.
    """

    request: Request
    source: Json
    data: Json = field(default_factory=dict)
    decisions: tuple[Json, ...] = ()
    measured: Json = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return {
            "format": FORMAT,
            "request": self.request.as_dict(),
            "source": dict(self.source),
            "data": dict(self.data),
            "decisions": [dict(d) for d in self.decisions],
            "measured": dict(self.measured),
            "tools": dict(self.tools),
        }

    def to_json(self) -> bytes:
        """Canonical JSON (RFC 8785). Raises BadInputError for a value that JSON can't say."""
        return canonical(self.as_dict())

    @classmethod
    def from_json(cls, data: bytes) -> Recipe:
        """Read a recipe, strictly. Raises BadInputError that says what is wrong with it."""
        try:
            values = strictjson.loads(data, limit=MAX_RECIPE)
        except ValueError as e:
            raise _bad(str(e)) from e
        if not isinstance(values, dict):
            raise _bad("it is no JSON object")
        if values.get("format") != FORMAT:
            raise _bad(f"its format is {values.get('format')!r}, this edgec reads {FORMAT}")
        for name, kind in _FIELDS.items():
            if name not in values:
                raise _bad(f"it has no '{name}'")
            if not isinstance(values[name], kind):
                raise _bad(f"'{name}' is no {_WORDS[kind]}")
        if unknown := sorted(values.keys() - _FIELDS.keys()):
            raise _bad(f"it has '{unknown[0]}', which this edgec doesn't know")
        if not all(isinstance(d, dict) for d in values["decisions"]):
            raise _bad("'decisions' holds something that is no object")
        if not all(isinstance(v, str) for v in values["tools"].values()):
            raise _bad("'tools' names a version that is no text")
        try:
            request = Request.from_dict(values["request"])
        except UsageError as e:
            raise _bad(f"{e.what}: {e.why}" if e.why else e.what) from e
        return cls(
            request, values["source"], values["data"], tuple(values["decisions"]), values["measured"], values["tools"]
        )


_FIELDS: dict[str, type] = {
    "format": int, "request": dict, "source": dict, "data": dict, "decisions": list, "measured": dict, "tools": dict,
}  # fmt: skip
_WORDS = {int: "number", dict: "object", list: "list"}


def _bad(why: str) -> BadInputError:
    return BadInputError(
        "The recipe can't be read",
        why,
        "Use the edgec that made it; 'edgec inspect FILE' names its version.",
        code="E917",
    )
