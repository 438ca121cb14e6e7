"""`run`, its reports, and the check that holds passes to the answers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import passes
from edgec.errors import BadInputError, GoldenError, UsageError
from edgec.passes.check import difference, outputs_check
from edgec.passes.report import MOST_REFUSALS_PER_RULE, Log

TEXT = '<ir_version: 10, opset_import: ["" : 21]> a (float[2] x) => (float[2] y) { t = Relu(x) u = Relu(t) y = Neg(u) }'


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def original() -> bytes:
    return onnx.parser.parse_model(TEXT).SerializeToString()


FEEDS = [{"x": np.array([-1, 2], np.float32)}]


def test_one_report_for_each_pass_in_order() -> None:
    applied = passes.run(model())
    assert tuple(a.name for a in applied) == passes.NAMES
    (clip,) = (a for a in applied if a.changed)
    assert (clip.name, clip.nodes_before, clip.nodes_after) == ("clip", 3, 2)
    assert [(f.rule, f.count) for f in clip.fired] == [("Relu ∘ Relu", 1)]


def test_a_target_chooses_its_passes() -> None:
    assert [a.name for a in passes.run(model(), ["unused", "identity"])] == ["unused", "identity"]


def test_every_name_is_a_module_with_a_numbered_docstring() -> None:
    for name in passes.ALL:
        module = __import__(f"edgec.passes.{name}", fromlist=["apply"])
        assert "\n    1. " in (module.apply.__doc__ or ""), name


def test_an_unknown_pass() -> None:
    with pytest.raises(UsageError, match="no pass 'fuse_all'") as error:
        passes.run(model(), ["identity", "fuse_all"])
    assert "batchnorm" in str(error.value)


def test_nameless_nodes_get_names() -> None:
    changed = model()
    passes.run(changed, ["identity"])
    assert [n.name for n in changed.graph] == ["Relu:t", "Relu:u", "Neg:y"]


def test_the_check_is_called_after_each_pass_that_changed_something() -> None:
    called: list[str] = []
    passes.run(model(), check=lambda _, name: called.append(name))
    assert called == ["clip"]


def test_the_check_names_the_pass_that_moved_an_output() -> None:
    changed = model()
    check = outputs_check(original(), FEEDS)
    check(changed, "nothing yet")
    next(n for n in changed.graph if n.op_type == "Neg").op_type = "Exp"
    with pytest.raises(GoldenError, match=r"'batchnorm'.*output 'y' moved") as error:
        check(changed, "batchnorm")
    assert (error.value.code, error.value.exit_code) == ("E610", 6)


def test_the_check_names_the_pass_that_broke_the_model() -> None:
    changed = model()
    check = outputs_check(original(), FEEDS)
    changed.graph.outputs[0].name = "z"
    with pytest.raises(GoldenError, match="its outputs are"):
        check(changed, "clip")
    next(iter(changed.graph)).op_type = "NoSuchOperator"
    with pytest.raises(GoldenError, match="no longer runs"):
        check(changed, "clip")


def test_the_check_takes_a_model_and_copies_it() -> None:
    changed = model()
    check = outputs_check(changed, FEEDS)
    next(n for n in changed.graph if n.op_type == "Neg").op_type = "Exp"
    with pytest.raises(GoldenError):
        check(changed, "clip")


@pytest.mark.parametrize("feeds", [[], [{"wrong": np.zeros(2, np.float32)}], [{"x": np.zeros(3, np.float32)}]])
def test_the_check_needs_inputs_that_fit(feeds: list[dict[str, np.ndarray]]) -> None:
    with pytest.raises(BadInputError):
        outputs_check(original(), feeds)


def array(*numbers: float, dtype: str = "float32") -> np.ndarray:
    return np.array(numbers, dtype)


@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (array(1, 100), array(1.001, 100), ""),
        (array(1, 100), array(1, 100.1), "moved"),
        (array(1e-9, 0), array(2e-7, 0), ""),
        (array(1, np.nan), array(1, np.nan), ""),
        (array(1, np.nan), array(1, 2), "NaN"),
        (array(np.inf, 1), array(-np.inf, 1), "NaN"),
        (array(1, 2, dtype="int64"), array(1, 3, dtype="int64"), "other elements"),
        (array(1, 2), array(1, 2, 3), "not float32[2]"),
        (array(1, 2), array(1, 2, dtype="float64"), "float64"),
        (array(), array(), ""),
        ([array(1)], [array(1)], ""),
        ([array(1)], [array(1), array(1)], "another length"),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), "other elements"),
    ],
)
def test_difference(a: object, b: object, word: str) -> None:
    why = difference(a, b)
    assert (word in why) if word else why == ""


def test_refusals_are_sentences_each_once_and_bounded() -> None:
    log = Log()
    for i in range(MOST_REFUSALS_PER_RULE + 5):
        log.refuse("rule", f"node{i}", "the weight is not a constant")
        log.refuse("rule", f"node{i}", "the weight is not a constant")
    assert log.refused[0] == passes.Refused("rule", "node0", "The weight is not a constant.")
    assert len(log.refused) == MOST_REFUSALS_PER_RULE + 1
    assert log.refused[-1].why == "And at 5 more places."


def test_counts_include_subgraphs_and_domains() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]> a (bool b, float[2] x) => (float[2] y) {
        t = com.microsoft.Gelu(x)
        y = If(b) <then_branch = t () => (float[2] p) { p = Neg(t) },
                   else_branch = e () => (float[2] q) { q = Neg(x) }> }"""
    assert passes.counts(ir.from_proto(onnx.parser.parse_model(text))) == {"Neg": 2, "If": 1, "com.microsoft::Gelu": 1}
