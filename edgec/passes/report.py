"""What a pass tells about itself: which rules fired, which almost did and why not, and node counts."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field

import onnx_ir as ir

# Bounds on what is kept for `inspect --why`: a model with 10,000 Casts must not make a report of 10,000 lines.
MOST_NAMES = 200
MOST_REFUSALS_PER_RULE = 20


@dataclass(frozen=True)
class Fired:
    """A rule that was applied.

    Attributes:
        rule: The rule's name, as in `docs/passes.md`.
        nodes: Names of the nodes it rewrote, in graph order (at most `MOST_NAMES`).
        count: How often it was applied.
    """

    rule: str
    nodes: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Refused:
    """A place where a rule almost fired.

    Attributes:
        rule: The rule's name.
        node: Name of the node where its pattern ended.
        why: The reason, a sentence.
    """

    rule: str
    node: str
    why: str


@dataclass(frozen=True)
class Applied:
    """What one pass did to a model."""

    name: str
    changed: bool
    nodes_before: int
    nodes_after: int
    fired: tuple[Fired, ...] = ()
    refused: tuple[Refused, ...] = ()


@dataclass
class Log:
    """Collects what the rules of one pass did. A pass writes it, `run` freezes it into an `Applied`."""

    _fired: dict[str, list[str]] = field(default_factory=dict)
    _refused: dict[str, dict[tuple[str, str], None]] = field(default_factory=dict)

    def fire(self, rule: str, *nodes: str | None) -> None:
        """One application of `rule`; `nodes` are the names of the nodes it took (the first is the one to show)."""
        self._fired.setdefault(rule, []).append(next((n for n in nodes if n), ""))

    def refuse(self, rule: str, node: str | None, why: str) -> None:
        """`rule` almost fired at `node`. The same refusal is kept once."""
        sentence = why.strip()
        if sentence:
            sentence = sentence[0].upper() + sentence[1:]
            if sentence[-1] not in ".!?":
                sentence += "."
            self._refused.setdefault(rule, {})[(node or "", sentence)] = None

    def forget_refusals(self, rules: set[str]) -> None:
        """Before another sweep over the graph: only what is refused at the end counts."""
        for rule in rules:
            self._refused.pop(rule, None)

    @property
    def count(self) -> int:
        """How many applications of any rule there were."""
        return sum(len(nodes) for nodes in self._fired.values())

    @property
    def fired(self) -> tuple[Fired, ...]:
        """Everything that fired, one entry a rule."""
        return tuple(Fired(rule, tuple(nodes[:MOST_NAMES]), len(nodes)) for rule, nodes in self._fired.items())

    @property
    def refused(self) -> tuple[Refused, ...]:
        """Everything refused: of each rule the first `MOST_REFUSALS_PER_RULE`, then how many more."""
        out = []
        for rule, places in self._refused.items():
            kept = list(places)[:MOST_REFUSALS_PER_RULE]
            out += [Refused(rule, node, why) for node, why in kept]
            if left := len(places) - len(kept):
                out.append(Refused(rule, "", f"And at {left} more places."))
        return tuple(out)


def counts(model: ir.Model) -> dict[str, int]:
    """Number of nodes of each operator, subgraphs included, most frequent first.

    Keys are operator types; those outside the default domain are written `domain::Type`.
    """
    counter = collections.Counter(
        node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
        for graph in model.graphs()
        for node in graph
    )
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
