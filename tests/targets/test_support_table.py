"""The committed operator table against the installed engine, and what it says of nodes."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from importlib.resources import files

import onnx_ir as ir
import pytest

from edgec_targets.emitters.onnxruntime import support
from edgec_targets.probe import operators, variants
from edgec_targets.probe.isolate import Prober
from edgec_targets.probe.table import decode, encode, short

SAMPLED = ("Add-14", "Clip-13", "Conv-22", "Gather-13", "QuantizeLinear-21", "QuantizeLinear-28", "Resize-19",
           "Softmax-13", "TopK-11", "Where-16")  # fmt: skip


def test_the_table_survives_being_written_and_read() -> None:
    text = (files("edgec_targets.emitters.onnxruntime") / "support.json").read_text()
    assert encode(decode(text)) == text
    assert len(text) < 150_000


def test_the_table_is_of_the_installed_engine() -> None:
    installed, probed = version("onnxruntime"), support.table()["version"]
    assert probed == installed, f"probed {probed}: run python -m edgec_targets.probe onnxruntime"


def test_ten_operators_probed_again_give_the_same_verdicts() -> None:
    wanted = {tuple(text.split("-")) for text in SAMPLED}
    found = [op for op in operators.standard() if (op.key, str(op.since)) in wanted]
    assert len(found) == len(SAMPLED)
    differences = []
    with Prober("onnxruntime") as prober:
        for op in found:
            entry = support.table()["operators"][op.key][str(op.since)]
            assert entry["vars"] == op.places
            for row in variants.rows(op):
                words = [short(word) for word in row]
                for verdict in ("loads", "refused"):
                    if support.contains(entry[verdict], words):
                        # An attribute-free model is enough for these ten, so the first way of writing it must do.
                        answer = next(prober.ask(m) for m in variants.models(op, row, []))
                        if answer.verdict != verdict:
                            differences.append((op.key, op.since, words, verdict, answer))
    assert not differences, "run python -m edgec_targets.probe onnxruntime"


def test_a_crash_is_an_answer_and_the_next_question_still_gets_one() -> None:
    op = next(op for op in operators.standard() if (op.key, op.since) == ("Relu", 14))
    blob = next(variants.models(op, ("tensor(float)",), []))
    with Prober("onnxruntime", timeout=20) as prober:
        assert prober.ask(blob).verdict == "loads"
        assert prober._child is not None
        prober._child.kill()
        prober._child.wait()
        assert prober.ask(blob).verdict == "crash"
        assert prober.ask(blob).verdict == "loads"
        assert prober.ask(b"not a model").verdict == "unclear"


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("tensor(float)", "tensor_type"),
        ("tensor(bfloat16)", "tensor_type"),
        ("seq(tensor(int64))", "sequence_type"),
        ("optional(seq(tensor(bool)))", "optional_type"),
        ("map(string, tensor(float))", "map_type"),
        ("map(int64, float)", "map_type"),
        ("seq(map(int64, tensor(float)))", "sequence_type"),
        ("sparse_tensor(double)", "sparse_tensor_type"),
    ],
)
def test_type_words_are_parsed(word: str, kind: str) -> None:
    assert variants.type_proto(word).WhichOneof("value") == kind


def test_an_unknown_type_word_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a type"):
        variants.type_proto("tensorfloat")


def problems(parse: Callable[..., ir.Model], text: str, **how: object) -> list[tuple[str, str]]:
    return [(p.node, p.operator) for p in support.problems(parse(text, **how))]


def test_no_kernel_at_this_version_points_to_an_older_one(parse: Callable[..., ir.Model]) -> None:
    text = """g (float[4] x) => (uint8[4] y) <float s = {0.1}, uint8 z = {0}> { [q] y = QuantizeLinear(x, s, z) }"""
    assert problems(parse, text, opset=21) == []
    (p,) = support.problems(parse(text, opset=28))
    assert (p.node, p.operator) == ("q", "QuantizeLinear-28")
    assert "version 25" in p.fix


def test_a_type_without_a_kernel_names_node_and_types(parse: Callable[..., ir.Model]) -> None:
    (p,) = support.problems(parse("g (bfloat16[4] x) => (bfloat16[4] y) { [n1] y = Add(x, x) }"))
    assert (p.node, p.operator) == ("n1", "Add-14")
    assert "T = bfloat16" in p.why and "float" in p.fix


def test_nodes_in_subgraphs_are_seen(parse: Callable[..., ir.Model]) -> None:
    text = """g (bool c, bfloat16[4] x) => (bfloat16[4] y) {
        y = If (c) <then_branch = t () => (bfloat16[4] o) { [inner] o = Add(x, x) },
                    else_branch = e () => (bfloat16[4] p) { p = Identity(x) }> }"""
    assert ("inner", "Add-14") in problems(parse, text)


def test_a_node_without_a_name_is_told_by_its_output(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (bfloat16[4] x) => (bfloat16[4] total) { total = Add(x, x) }")
    next(iter(m.graph)).name = None
    (p,) = support.problems(m)
    assert "total" in p.node


def test_what_is_not_in_the_table_is_no_problem(parse: Callable[..., ir.Model]) -> None:
    assert (
        problems(parse, "g (float[4] x) => (float[4] y) { y = com.example.A(x) }", domains=', "com.example" : 1') == []
    )
    m = parse("g (float[4] x) => (float[4] y) { y = Add(x, x) }")
    m.graph.inputs[0].type = None
    m.graph.outputs[0].type = None
    assert support.problems(m) == []


def test_standard_operators_with_float_are_fine(parse: Callable[..., ir.Model]) -> None:
    text = """g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { a = Conv(x, w) b = Relu(a) y = Clip(b) }"""
    assert problems(parse, text) == []
