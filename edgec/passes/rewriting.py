"""Applies onnxscript rewrite rules to a whole model: names kept, refusals recorded, until nothing more fires.

onnxscript's own `RewriteRuleSet` finds and builds the same rewrites. This driver exists for what a compiler needs on
top: the node that remains keeps the name of the node it stands for, new initializers get names nobody else has, a
refusal is recorded as a sentence, and a sweep is repeated until it changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import onnx_ir as ir
from onnxscript.rewriter import MatchResult, RewriteRule
from onnxscript.rewriter._basics import MatchContext
from onnxscript.rewriter.pattern import MatchingTracer, MatchStatus

from edgec.passes.naming import Names
from edgec.passes.report import Log

# A rewrite makes the graph smaller or moves it towards a normal form, so sweeps end by themselves; the bound is there
# for two rules that undo each other, which would be our mistake and must not hang a compile.
MOST_SWEEPS = 20

_OTHER_USES = "Matched nodes have other uses preventing replacement."


if TYPE_CHECKING:
    # onnxscript calls a rule's methods with the variables of its own pattern, by name: no signature fits them all.
    class _Base:
        pattern: Any
        check: Any
        rewrite: Any

        def __init__(self, name: str, remove_nodes: bool) -> None: ...

        @classmethod
        def rule(cls) -> RewriteRule: ...
else:
    from onnxscript.rewriter.pattern import RewriteRuleClassBase as _Base


class Rule(_Base):
    """A fusion: `pattern` (what it looks like), `check` (when it is legal, else why not), `rewrite` (what replaces it).

    `title` is the rule's name in reports. A rule with `bypass` leaves the inner nodes where something else uses them
    too, and so fires there as well.
    """

    title: ClassVar[str]
    bypass: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(name=self.title, remove_nodes=not self.bypass)


def yes() -> MatchResult:
    """The rule may fire."""
    return MatchResult()


def no(why: str = "") -> MatchResult:
    """The rule may not fire. With a sentence it counts as "almost fired"; without, as "this is something else"."""
    return MatchResult().fail(why)


class _Recorder(MatchingTracer):
    """Turns what the matcher reports into refusals."""

    def __init__(self, model: ir.Model, log: Log) -> None:
        super().__init__()
        self._model = model
        self._log = log

    def log(self, rule: Any, container: Any, node: ir.Node, match_result: MatchResult, status: MatchStatus) -> None:
        if status == MatchStatus.CONDITION_FAILED:
            self._log.refuse(str(rule), node.name, match_result.reason)
        elif status == MatchStatus.NO_MATCH and match_result.reason == _OTHER_USES:
            if not self._is_legal(rule, container, node, match_result):
                return
            self._log.refuse(str(rule), node.name, "A value inside the pattern is used elsewhere too.")

    def _is_legal(self, rule: Any, graph: ir.Graph, node: ir.Node, match: MatchResult) -> bool:
        """Whether the rule would have fired, had nobody else used the inner values: else it is no near miss."""
        if not isinstance(getattr(rule._condition_function, "__self__", None), Rule):
            return True
        bindings = {v.name: None for v in rule._target_pattern.inputs if v.name is not None} | match.bindings
        return bool(rule._condition_function(MatchContext(self._model, graph, node, match), **bindings))


def apply(model: ir.Model, rules: Sequence[RewriteRule], log: Log) -> int:
    """Applies `rules` to the main graph and all subgraphs until nothing more fires.

    Args:
        model: Changed in place. Functions are left alone (the front end has inlined them).
        rules: In order of preference at each node.
        log: Receives what fired and what was refused.

    Returns:
        How many rewrites were made.
    """
    by_root: dict[str, list[RewriteRule]] = {}
    for rule in rules:
        by_root.setdefault(rule._target_pattern.output_node.op_type, []).append(rule)
    names = {rule.name or "" for rule in rules}
    total = 0
    for _ in range(MOST_SWEEPS):
        log.forget_refusals(names)
        fired = _sweep(model, by_root, log)
        total += fired
        if not fired:
            break
    return total


def _sweep(model: ir.Model, by_root: dict[str, list[RewriteRule]], log: Log) -> int:
    fired = 0
    recorder = _Recorder(model, log)
    taken = Names(model)
    for graph in list(model.graphs()):
        for node in graph:
            for rule in by_root.get(node.op_type, ()):
                delta = rule.try_rewrite(model, graph, node, tracer=recorder)
                if delta is not None:
                    matched = list(delta.match.nodes)
                    log.fire(str(rule), *(n.name for n in _main_first(matched, delta.new_nodes)))
                    _replace(model, graph, node, delta, taken)
                    fired += 1
                    break
    return fired


def _main_first(matched: Sequence[ir.Node], new: Sequence[ir.Node]) -> Iterator[ir.Node]:
    kept = {n.op_type for n in new}
    yield from sorted(matched, key=lambda n: n.op_type not in kept)


def _replace(model: ir.Model, graph: ir.Graph, root: ir.Node, delta: Any, taken: Names) -> None:
    """Puts the new nodes where the matched ones were and gives them their names."""
    matched, new_nodes = list(delta.match.nodes), list(delta.new_nodes)
    for value in delta.new_initializers:
        value.name = taken.value(value.name or f"{root.name}/constant")
        model.graph.register_initializer(value)
    heirs = _leaving(matched, root)
    for node in new_nodes:
        heir = next((m for m in heirs if m.op_type == node.op_type), None) or next(
            (m for m in heirs if m is root), None
        )
        if heir is not None:
            heirs.remove(heir)
            node.name = heir.name
            node.doc_string = node.doc_string or heir.doc_string
            node.metadata_props.update(heir.metadata_props)
        else:
            node.name = taken.node(f"{root.name}/{node.op_type}")
    for value in (v for node in new_nodes for v in node.outputs):
        if value not in delta.new_outputs:
            value.name = taken.value(value.name or f"{root.name}/value")
    ir.convenience.replace_nodes_and_values(graph, root, [], new_nodes, delta.match.outputs, delta.new_outputs)
    for node in sorted(matched, key=lambda n: n is not root):  # the root first: it holds on to the others
        if not any(v.uses() or v.is_graph_output() for v in node.outputs):
            graph.remove(node, safe=True)


def _leaving(matched: Sequence[ir.Node], root: ir.Node) -> list[ir.Node]:
    """The matched nodes that go: the root, and those whose results nothing that stays reads. Others keep their name."""
    going = {root}
    while more := [
        m
        for m in matched
        if m not in going
        and not any(v.is_graph_output() for v in m.outputs)
        and all(consumer in going for v in m.outputs for consumer in v.consumers())
    ]:
        going.update(more)
    return [m for m in matched if m in going]


def rules_of(*classes: type[Rule], commute: bool = False) -> list[RewriteRule]:
    """One onnxscript rule for each class; with `commute` also those with the operands of Add and Mul swapped."""
    rules = [c.rule() for c in classes]
    return [variant for rule in rules for variant in rule.commute()] if commute else rules


def names_of(rules: Iterable[RewriteRule]) -> list[str]:
    """The rules' names, each once, in order."""
    return list(dict.fromkeys(str(rule) for rule in rules))
