"""What a model does with more than one sample, and which payloads of batch one ship because of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec.measure.accuracy import original
from edgec.stages import batch

X = np.random.default_rng(3).standard_normal((4, 1, 6)).astype(np.float32)
MODELS = {
    "each sample for itself": ("g (float[N,6] x) => (float[N,6] y) { y = Softmax<axis = 1>(x) }", batch.SPLIT),
    "with an input for all": ("g (float[N,6] x, float[6] w) => (float[N,6] y) { y = Mul(x, w) }", batch.SPLIT),
    "samples that see each other": ("g (float[N,6] x) => (float[N,6] y) { y = Softmax<axis = 0>(x) }", batch.UNKNOWN),
    "a mean over the batch": (
        "g (float[N,6] x) => (float[1,6] y) { y = ReduceMean<axes = [0]>(x) }",
        batch.UNKNOWN,
    ),
    "results in another order of axes": ("g (float[N,6] x) => (float[6,N] y) { y = Transpose(x) }", batch.UNKNOWN),
    "one sample is all that runs": (
        "g (float[N,6] x) => (float[1,2,3] y) <int64[3] s = {1, 2, 3}> { y = Reshape(x, s) }",
        batch.ONE,
    ),
    "no free batch": ("g (float[1,6] x) => (float[1,6] y) { y = Relu(x) }", batch.UNKNOWN),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("given", ["samples", "a batch", "one sample"])
def test_what_it_does_with_more_than_one(case: str, given: str) -> None:
    text, kind = MODELS[case]
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')
    feeds = {"samples": X, "a batch": [X[:, 0]], "one sample": X[:1]}[given]
    if case == "no free batch":
        feeds = X
    others = {"w": np.arange(6, dtype=np.float32)} if "w)" in text.split("=>")[0] else {}
    asked = [{"x": x, **others} for x in feeds]
    found = batch.kind(ir.from_proto(proto), asked, original(proto.SerializeToString()))
    alone = kind == batch.UNKNOWN and given != "a batch" and case != "no free batch"
    assert found == (batch.ALONE if alone else kind)


def test_no_inputs_no_answer() -> None:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {MODELS["each sample for itself"][0]}')
    model, run = ir.from_proto(proto), original(proto.SerializeToString())
    assert batch.kind(model, [], run) == batch.UNKNOWN
    assert batch.kind(model, [{"x": np.zeros((0, 6), np.float32)}], run) == batch.UNKNOWN
    constant = [{"x": np.ones((1, 6), np.float32)}] * 2  # two equal samples show nothing, whichever way they are turned
    assert batch.kind(model, constant, run) == batch.UNKNOWN


def test_a_model_with_a_free_batch_ships_a_payload_that_splits_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert")
    import edgec_runtime as rt
    from edgec.compiler import compile

    monkeypatch.setenv("EDGEC_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "root"))
    rng = np.random.default_rng(5)
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"], strides=[2, 2]),
        onnx.helper.make_node("Relu", ["c"], ["r"]),
        onnx.helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["y"]),
    ]
    weights = onnx.numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "w")
    ends = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s)
        for n, s in (("x", ("N", 3, 16, 16)), ("y", ("N", 8)))
    ]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    made = compile(model.SerializeToString(), "rpi5", output=tmp_path / "m.edge")
    options = {p["engine"]: p["options"] for p in made.manifest["payloads"]}
    assert options["litert"]["batch"] == "split" and "batch" not in options["onnxruntime"]
    assert made.report["notes"] == {"litert-float32-rpi5": ["4 operators, 1 of them a transposition"]}
    x = rng.standard_normal((3, 3, 16, 16)).astype(np.float32)
    answers = []
    for engine in options:
        with rt.load(made.path, engine=engine, allow_unsigned=True) as loaded:
            answers.append([loaded.run({"x": x[:n]})["y"] for n in (1, 3, 1)])
    for one, other in zip(*answers, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_samples_that_touch_are_left_to_the_other_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ai_edge_litert")
    import edgec_runtime as rt
    from edgec.compiler import compile
    from edgec.errors import BadInputError

    monkeypatch.setenv("EDGEC_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "root"))
    text = "g (float[N,6] x) => (float[N,6] y) { a = Softmax<axis = 0>(x) b = Add(x, a) y = Relu(b) }"
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}')
    made = compile(proto.SerializeToString(), "rpi5", output=tmp_path / "m.edge")
    options = {p["engine"]: p["options"] for p in made.manifest["payloads"]}
    assert options["litert"]["batch"] == "one"
    with rt.load(made.path, engine="litert", allow_unsigned=True) as loaded, pytest.raises(BadInputError) as error:
        loaded.run({"x": X[:2, 0]})
    assert "takes [1, 6]" in error.value.what
