"""`check`: problems by node, memory against the board's, notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from edgec_targets import board, target
from edgec_targets.check import check, facts
from edgec_targets.types import Board, Built, Problem


class Refusing:
    """An emitter that refuses the first `count` nodes."""

    def __init__(self, count: int) -> None:
        self.name, self.count = "refusing", count

    def emit(self, model: ir.Model, board: Board, *, precision: str) -> Built:
        raise NotImplementedError

    def problems(self, model: ir.Model, board: Board) -> Sequence[Problem]:
        return [Problem(n.name or "", n.op_type, "because", "none") for n in list(model.graph)[: self.count]]


def test_a_zoo_model_runs_on_every_board(zoo: Callable[[str], Path]) -> None:
    model = ir.load(zoo("dscnn_kws") / "model.onnx")
    for name in ("host", "rpi-zero2w", "rpi5", "jetson-orin-nano-cpu", "generic-armv8.0"):
        assert check(model, board(name)) == [], name


def test_every_refused_node_is_named(parse: Callable[..., ir.Model]) -> None:
    text = """g (float[1,4,8] x, float[8] w) => (float[1,4,8] y) {
        [a] b = com.microsoft.BiasAdd(x, w, x) [c] d = Identity(b) [e] y = com.microsoft.BiasAdd(d, w, x) }"""
    m = parse(text, domains=', "com.microsoft" : 1')
    assert [p.node for p in check(m, board("rpi5"))] == ["a", "e"]


def test_the_emitter_with_the_fewest_problems_speaks(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[4] x) => (float[4] y) { [a] b = Relu(x) [c] y = Relu(b) }")
    host = board("host")
    one = replace(target("host"), emitters=(Refusing(2), Refusing(1)))
    assert [p.node for p in check(m, host, one)] == ["a"]
    assert check(m, host, replace(one, emitters=(Refusing(1), Refusing(0)))) == []


def test_legalize_runs_first_and_leaves_the_model_alone(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[4] x) => (float[4] y) { [a] b = Relu(x) [c] y = Relu(b) }")

    def rename(model: ir.Model, board: Board) -> ir.Model:
        for node in model.graph:
            node.name = "legal"
        return model

    t = replace(target("host"), emitters=(Refusing(1),), legalize=rename)
    assert [p.node for p in check(m, board("host"), t)] == ["legal"]
    assert [n.name for n in m.graph] == ["a", "c"]


def test_a_model_that_does_not_fit_is_a_problem_at_no_node(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[1000000] x) => (float[1000000] y) { y = Relu(x) }")
    small = replace(board("rpi5"), memory=7_000_000)
    (p,) = check(m, small)
    assert p.node == "" and "8.0 MB" in p.why and "7 MB" in p.why
    assert check(m, replace(small, memory=None)) == []
    assert any("of the board's memory" in note for note in facts(m, replace(small, memory=9_000_000)).notes)


def test_free_dimensions_are_noted_by_input(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[batch, 4] picture) => (float[batch, 4] y) { y = Relu(picture) }")
    (note,) = facts(m, board("rpi5")).notes
    assert "picture" in note and "batch" in note and "--shape" in note
    assert facts(parse("g (float[4] x) => (float[4] y) { y = Relu(x) }"), board("rpi5")).notes == ()
