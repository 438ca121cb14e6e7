"""What the ONNX front end accepts, and that the model still computes what the file did."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgec import frontends
from edgec.errors import BadInputError
from edgec.frontends.onnx import convert

warnings.simplefilter("ignore")


def run(model: bytes, **feeds: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, feeds)


def tensor(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make(
    nodes: list, inputs: list, outputs: list, weights: list = (), opset: int = 21, **more: object
) -> onnx.ModelProto:  # type: ignore[assignment]
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=more.pop("ir_version", 8), **more)


X = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 2, 4, 4)


def small(opset: int) -> onnx.ModelProto:
    """Operators whose signatures changed on the way: BatchNormalization (9), Pad (11), Softmax (13), ReduceSum (13)."""
    stats = [onnx.numpy_helper.from_array(np.array([1, 2], np.float32), n) for n in ("scale", "bias", "mean", "var")]
    pads = [0, 0, 1, 1, 0, 0, 1, 1]
    if opset < 11:
        pad = helper.make_node("Pad", ["b"], ["p"], name="pad", pads=pads)
    else:
        stats.append(onnx.numpy_helper.from_array(np.array(pads, np.int64), "pads"))
        pad = helper.make_node("Pad", ["b", "pads"], ["p"], name="pad")
    if opset < 13:
        total = helper.make_node("ReduceSum", ["s"], ["y"], name="total", axes=[2, 3], keepdims=0)
    else:
        stats.append(onnx.numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
        total = helper.make_node("ReduceSum", ["s", "axes"], ["y"], name="total", keepdims=0)
    nodes = [
        helper.make_node("BatchNormalization", ["x", "scale", "bias", "mean", "var"], ["b"], name="norm"),
        pad,
        helper.make_node("Softmax", ["p"], ["s"], name="soft", axis=1),
        total,
    ]
    return make(nodes, [tensor("x", 1, 2, 4, 4)], [tensor("y", 1, 2)], stats, opset=opset)


@pytest.mark.parametrize("opset", range(7, onnx.defs.onnx_opset_version() + 1))
def test_every_opset_from_7_keeps_the_answer(opset: int) -> None:
    source = small(opset)
    imported = frontends.load(source.SerializeToString())
    assert imported.opset == opset
    assert imported.model.opset_imports[""] == max(opset, convert.WANTED)
    assert {"norm", "pad", "soft", "total"} <= {node.name for node in imported.model.graph}
    expected = run(source.SerializeToString(), x=X)
    np.testing.assert_allclose(run(frontends.save_bytes(imported.model), x=X)[0], expected[0], rtol=1e-6)
    assert imported.model.graph.outputs[0].shape == ir.Shape([1, 2])


def test_record_of_the_source(tmp_path: Path) -> None:
    data = small(13).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source, original in ((path, path), (data, data)):
        imported = frontends.load(source)
        assert (imported.sha256, imported.size) == (hashlib.sha256(data).hexdigest(), len(data))
        assert (imported.format, imported.ir_version, imported.original) == ("onnx", 8, original)


def test_the_same_file_gives_the_same_bytes() -> None:
    data = small(9).SerializeToString()
    assert frontends.save_bytes(frontends.load(data).model) == frontends.save_bytes(frontends.load(data).model)


def test_constants_become_initializers() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["text"], value_strings=["é", "b"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
        helper.make_node("Identity", ["text"], ["t"]),
    ]
    source = make(nodes, [tensor("x", 2)], [tensor("y", 2), tensor("t", 2, kind=TensorProto.STRING)])
    model = frontends.load(source).model
    assert [n.op_type for n in model.graph] == ["Add", "Identity"]
    assert {"c", "text"} <= set(model.graph.initializers)
    y, t = run(frontends.save_bytes(model), x=np.zeros(2, np.float32))
    assert list(y) == [1, 2] and list(t) == ["é", "b"]


@pytest.mark.parametrize("body_opset", [18, 13])
def test_functions_are_inlined_and_node_names_survive(body_opset: int) -> None:
    """Also where the function has another opset than the model."""
    inner = helper.make_node("Softmax", ["a"], ["b"], name="inner")
    body = helper.make_function("own", "Soft", ["a"], ["b"], [inner], [helper.make_opsetid("", body_opset)])
    nodes = [
        helper.make_node("Soft", ["x"], ["h"], name="call", domain="own"),
        helper.make_node("Neg", ["h"], ["y"], name="outer"),
    ]
    more = {"imports": [helper.make_opsetid("own", 1)], "functions": [body]}
    source = make(nodes, [tensor("x", 1, 3)], [tensor("y", 1, 3)], opset=18, **more)
    imported = frontends.load(source)
    assert not imported.model.functions
    assert [n.op_type for n in imported.model.graph] == ["Softmax", "Neg"]
    assert "outer" in {n.name for n in imported.model.graph}
    feed = np.array([[1, 2, 3]], np.float32)
    got = run(frontends.save_bytes(imported.model), x=feed)
    np.testing.assert_allclose(got[0], run(source.SerializeToString(), x=feed)[0], rtol=1e-6)


def test_every_node_gets_a_name_of_its_own() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="same"),
        helper.make_node("Relu", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    imported = frontends.load(make(nodes, [tensor("x", 2)], [tensor("y", 2)]))
    assert [n.name for n in imported.model.graph] == ["same", "same_2", "Relu_0"]
    assert len(imported.notes) == 2


def test_unsorted_nodes_are_sorted() -> None:
    nodes = [helper.make_node("Neg", ["a"], ["y"], name="second"), helper.make_node("Relu", ["x"], ["a"], name="first")]
    imported = frontends.load(make(nodes, [tensor("x", 2)], [tensor("y", 2)]))
    assert [n.name for n in imported.model.graph] == ["first", "second"]
    assert any("sorted" in note for note in imported.notes)


def test_weights_among_the_inputs_are_weights() -> None:
    weight = onnx.numpy_helper.from_array(np.ones(2, np.float32), "w")
    source = make(
        [helper.make_node("Add", ["x", "w"], ["y"])], [tensor("x", 2), tensor("w", 2)], [tensor("y", 2)], [weight]
    )
    source.ir_version = 3
    assert [v.name for v in frontends.load(source).model.graph.inputs] == ["x"]
    source.ir_version = 8
    assert any("default value" in note for note in frontends.load(source).notes)


def test_outputs_without_shape_and_negative_dimensions() -> None:
    source = make([helper.make_node("Relu", ["x"], ["y"])], [tensor("x", -1, 3)], [tensor("y", 1, 3)])
    source.graph.output[0].type.tensor_type.ClearField("shape")
    imported = frontends.load(source)
    assert imported.model.graph.outputs[0].shape is not None
    assert any("negative" in note for note in imported.notes)


def test_contrib_operators_are_accepted() -> None:
    source = make(
        [helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")], [tensor("x", 2)], [tensor("y", 2)]
    )
    imported = frontends.load(source)
    assert any("com.microsoft" in note for note in imported.notes)
    assert run(frontends.save_bytes(imported.model), x=np.ones(2, np.float32))[0].shape == (2,)


def test_a_conversion_that_no_converter_has_keeps_the_opset() -> None:
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "e"], ["t"]), helper.make_node("Identity", ["t"], ["o"])],
        "body", [tensor("s", 2), tensor("e", 2)], [tensor("t", 2), tensor("o", 2)],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["", "i", "x"], ["l", "y"], name="scan", body=body, num_scan_inputs=1)
    inputs = [tensor("i", 1, 2), tensor("x", 1, 3, 2)]
    source = make([scan], inputs, [tensor("l", 1, 2), tensor("y", 1, 3, 2)], opset=8, ir_version=3)
    imported = frontends.load(source)
    assert imported.model.opset_imports[""] == 8
    assert any("'scan'" in note and "opset 8" in note for note in imported.notes)


# ---- shapes given by the user -------------------------------------------------------------------------------


def flexible() -> onnx.ModelProto:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Add", ["r", "z"], ["y"])]
    inputs = [tensor("x", "n", 3, "w"), tensor("z", "n", 3, "w")]
    return make(nodes, inputs, [tensor("y", "n", 3, "w")])


def test_shapes_are_fixed_and_inferred() -> None:
    imported = frontends.load(flexible(), shapes={"x": [1, 3, "wide"], "z": [1, 3, 8]})
    assert imported.model.graph.inputs[0].shape[0] == 1
    assert str(imported.model.graph.inputs[0].shape[2]) == "wide"
    assert imported.model.graph.outputs[0].shape == ir.Shape([1, 3, 8])
    original = ort.InferenceSession(imported.original, providers=["CPUExecutionProvider"])
    assert original.get_inputs()[1].shape == [1, 3, 8]


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"q": [1, 3, 8]}, "'q'"),
        ({"x": [1, 3]}, "3 dimensions"),
        ({"x": [1, 4, 8]}, "dimension 1"),
        ({"x": [1, 3, -8]}, "-8"),
        ({"x": [1, 3, 8], "z": [2, 3, 8]}, "'n'"),
        ({"x": [2**40, 3, 2**40]}, "absurd"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, list[int | str]], words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        frontends.load(flexible(), shapes=shapes)
    assert words in caught.value.what
    if "absurd" not in words:
        assert "x=n,3,w" in caught.value.why and caught.value.code == "E907"


# ---- real models ----------------------------------------------------------------------------------------------

REAL = Path(__file__).parents[2] / "build/models"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192)),
        ("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 64)),
    ],
)
def test_real_models_compute_the_same(name: str, shape: tuple[int, ...]) -> None:
    path = REAL / name
    if not path.exists():
        pytest.skip("the models that pip brings aren't there: make models")
    imported = frontends.load(path)
    assert imported.model.opset_imports[""] >= convert.WANTED
    feed = {imported.model.graph.inputs[0].name: np.random.default_rng(0).random(shape, np.float32)}
    got, expected = run(frontends.save_bytes(imported.model), **feed), run(path.read_bytes(), **feed)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
