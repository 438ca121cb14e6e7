"""Each kind of broken model gives one BadInputError that names the node, value or file."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgec import frontends
from edgec.errors import BadInputError
from edgec.frontends.onnx import isolated, structure


def tensor(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(operator: str, inputs: str, outputs: str, name: str = "", domain: str = "", **more: object) -> onnx.NodeProto:
    """`inputs` and `outputs` are names of one letter each; `more` are attributes."""
    return helper.make_node(operator, list(inputs), list(outputs), name=name, domain=domain, **more)


def model(*nodes: onnx.NodeProto, opset: int = 21, weights: tuple[onnx.TensorProto, ...] = ()) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "g", [tensor("x", 2)], [tensor("y", 2)], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def refused(source: onnx.ModelProto | bytes | Path, *words: str, code: str = "") -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        frontends.load(source)
    text = str(caught.value)
    for word in words:
        assert word in text
    assert caught.value.exit_code == 9
    assert not code or caught.value.code == code
    return caught.value


GOOD = model(node("Relu", "x", "y", "act"))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"\x00" * 64, "not an ONNX model"),
        (b"PK\x03\x04" + b"0" * 40, "ZIP"),
        (b"\x1c\x00\x00\x00TFL3" + b"0" * 40, "TFLite"),
        (b"<!DOCTYPE html>", "HTML"),
        (GOOD.SerializeToString()[:-20], "damaged"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "no graph"),
    ],
)
def test_not_a_model(data: bytes, word: str) -> None:
    refused(data, word, code="E902")


def test_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "no.onnx", "no.onnx", "not there")
    refused(tmp_path, "not a file")


def test_a_cycle_names_its_nodes() -> None:
    wrong = model(node("Add", "xc", "b", "first"), node("Relu", "b", "c", "second"), node("Relu", "c", "y", "last"))
    error = refused(wrong, "circle", "'first'", "'second'", code="E903")
    assert "'last'" not in str(error)


def test_a_cycle_through_a_subgraph() -> None:
    inner = helper.make_graph([node("Neg", "q", "t")], "then", [], [tensor("t", 2)])
    cond = onnx.numpy_helper.from_array(np.array(True), "c")
    choose = node("If", "c", "p", "choose", then_branch=inner, else_branch=inner)
    refused(
        model(choose, node("Relu", "p", "q", "after"), node("Relu", "q", "y"), weights=(cond,)), "circle", "'choose'"
    )


def test_a_value_made_twice_names_both_nodes() -> None:
    refused(model(node("Relu", "x", "y", "one"), node("Neg", "x", "y", "two")), "'two'", "'one'", "'y'", code="E903")


def test_a_node_that_makes_an_input() -> None:
    refused(model(node("Relu", "x", "x", "loop"), node("Relu", "x", "y")), "'loop'", "'x'")


def test_duplicated_names() -> None:
    weight = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    refused(model(node("Add", "xw", "y"), weights=(weight, weight)), "initializer 'w'", "twice")
    twice = model(node("Relu", "x", "y"))
    twice.graph.input.append(tensor("x", 2))
    refused(twice, "input 'x'", "twice")


def test_an_input_that_nothing_makes() -> None:
    refused(model(node("Add", "xz", "y", "sum")), "'sum'", "'z'", code="E903")


def test_no_outputs_and_an_output_that_nothing_makes() -> None:
    wrong = model(node("Relu", "x", "y"))
    wrong.graph.output[0].name = "other"
    refused(wrong, "'other'")
    del wrong.graph.output[:]
    refused(wrong, "no outputs")


def test_unknown_operators_and_domains() -> None:
    refused(model(node("Relux", "x", "y", "odd")), "'odd'", "Relux", "Relu", code="E904")
    refused(model(node("Gelu", "x", "y", "late"), opset=13), "'late'", "opset 20", code="E904")
    refused(model(node("Upsample", "x", "y", "gone"), opset=13), "'gone'", "Upsample")
    refused(model(node("My", "x", "y", "mine", "my.domain")), "'mine'", "my.domain", code="E904")
    refused(model(node("NoSuchThing", "x", "y", "contrib", "com.microsoft")), "'contrib'", "com.microsoft.NoSuchThing")
    refused(model(node("ReorderInput", "x", "y", "layout", "com.microsoft.nchwc")), "'layout'", "one kind of machine")


def test_an_unknown_operator_in_a_subgraph_or_function() -> None:
    inner = helper.make_graph([node("Odd", "x", "t", "deep")], "then", [], [tensor("t", 2)])
    cond = onnx.numpy_helper.from_array(np.array(True), "c")
    refused(model(node("If", "c", "y", "if", then_branch=inner, else_branch=inner), weights=(cond,)), "'if'", "'deep'")
    wrong = model(node("F", "x", "y", domain="own"))
    wrong.opset_import.add(domain="own", version=1)
    body = helper.make_function(
        "own", "F", ["a"], ["b"], [node("Odd", "a", "b", "deep")], [helper.make_opsetid("", 21)]
    )
    wrong.functions.append(body)
    refused(wrong, "function 'F'", "'deep'")


def test_functions_that_recurse_or_explode() -> None:
    wrong = model(node("F", "x", "y", domain="own"))
    wrong.opset_import.add(domain="own", version=1)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    wrong.functions.append(helper.make_function("own", "F", ["a"], ["b"], [node("F", "a", "b", domain="own")], imports))
    refused(wrong, "'F'", "itself")
    del wrong.functions[:]
    for i in range(12):
        inner = f"F{i + 1}" if i < 11 else "Relu"
        names = "abcdefghijk"
        nodes = [node(inner, p, q, domain="own" if i < 11 else "") for p, q in itertools.pairwise(names)]
        function = helper.make_function("own", f"F{i}" if i else "F", ["a"], ["k"], nodes, imports)
        wrong.functions.append(function)
    refused(wrong, f"{structure.MAX_EXPANDED} nodes")


def test_versions_from_the_future() -> None:
    late = model(node("Relu", "x", "y"))
    late.opset_import[0].version = 999
    refused(late, "opset 999", code="E904")
    late = model(node("Relu", "x", "y"))
    late.ir_version = 999
    refused(late, "IR version 999", code="E904")


def test_data_that_does_not_fit_its_shape() -> None:
    weight = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    weight.dims[0] = 3
    refused(model(node("Add", "xw", "y"), weights=(weight,)), "'w'", "8 bytes", "12", code="E906")
    weight.dims[:] = [2**40, 2**40]
    refused(model(node("Add", "xw", "y"), weights=(weight,)), "'w'", "absurd", code="E906")
    weight.dims[:] = [-2]
    refused(model(node("Add", "xw", "y"), weights=(weight,)), "'w'", "negative", code="E906")
    weight.dims[:] = [2]
    weight.data_type = 77
    refused(model(node("Add", "xw", "y"), weights=(weight,)), "'w'", "77", code="E906")


def test_absurd_shape_of_an_input() -> None:
    wrong = model(node("Relu", "x", "y"))
    wrong.graph.input[0].CopyFrom(tensor("x", 2**33, 2**33))
    refused(wrong, "'x'", "absurd", code="E906")


def test_the_checkers_complaint_names_the_node() -> None:
    refused(model(node("Cast", "x", "y", "cast")), "'cast'", "to", code="E908")


def test_types_that_cannot_fit() -> None:
    whole = onnx.numpy_helper.from_array(np.ones(2, np.int64), "i")
    refused(model(node("Add", "xi", "y", "mixed"), weights=(whole,)), "Add", code="E908")


def test_cpp_that_allocates_what_a_dimension_says() -> None:
    wrong = model(node("Split", "x", "y", "split", num_outputs=10**9, axis=0))
    refused(wrong, code="E908")


def test_cpp_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """onnx 1.23's inference loops for ever on this equation; the child process is stopped, and a new one serves."""
    monkeypatch.setattr(isolated, "CPU_SECONDS", 1)
    isolated._CHILD.close()
    refused(model(node("Einsum", "x", "y", "sum", equation="....")), "did not end")
    isolated._CHILD.close()
    assert frontends.load(GOOD).format == "onnx"


def nested(depth: int) -> onnx.ModelProto:
    cond = onnx.numpy_helper.from_array(np.array(True), "c")
    leaf = graph = helper.make_graph([node("Relu", "x", "t")], "leaf", [], [tensor("t", 2)])
    for _ in range(depth):
        choose = node("If", "c", "t", then_branch=graph, else_branch=leaf)
        graph = helper.make_graph([choose], "branch", [], [tensor("t", 2)])
    return model(node("If", "c", "y", then_branch=graph, else_branch=leaf), weights=(cond,))


def test_deep_nesting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frontends.load(nested(8)).model.graph.outputs
    monkeypatch.setattr(structure, "MAX_NESTING", 6)
    refused(nested(8), "nested more than 6 deep", code="E903")
