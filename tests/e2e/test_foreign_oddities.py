"""Single things that a foreign model once broke: each test says which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir
import pytest

import edgec_runtime as rt
import edgec_runtime.bundle
from edgec import arrays, data, frontends, quantize
from edgec.bundle.recipe import Recipe
from edgec.compiler import compile
from edgec.errors import BadInputError, UnsupportedError
from edgec_runtime.cli import source
from tests.e2e.foreign import MODELS, PAD, Foreign, X, calibration, same_interface, session

pytestmark = pytest.mark.filterwarnings("error")
BOARDS = "host,rpi4"


def test_golden_answers_of_a_model_that_came_quantized_are_held_as_int8_is(tmp_path: Path) -> None:
    """At 60 dB every other CPU's rounding would have failed the device's self-test."""
    for name, least in (("quantized already", 20.0), ("half precision inside", 40.0), ("mobile block", 60.0)):
        made = compile(MODELS[name].proto().SerializeToString(), BOARDS, output=tmp_path / "m.edge")
        assert {p["golden"]["min_sqnr_db"] for p in made.manifest["payloads"]} == {least}
    with pytest.raises(UnsupportedError, match="quantized") as refused:
        proto = MODELS["quantized already"].proto()
        compile(
            proto.SerializeToString(), BOARDS, output=tmp_path / "n.edge", calib=calibration(proto), precision="int8"
        )
    assert "quantized already" in refused.value.why


def test_an_input_of_unknown_rank_is_asked_for(tmp_path: Path) -> None:
    proto = Foreign(f"g ({X}) => (float[1,4,8,8] y) {{ y = Conv <{PAD}> (x, w) }}", {"w": (4, 3, 3, 3)}).proto()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(BadInputError, match="dimensions its input 'x'") as refused:
        compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge")
    assert "--shape" in refused.value.fix and not list(tmp_path.iterdir())
    shapes = {"x": ["n", 3, 8, 8]}
    made = compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", shapes=shapes)
    assert made.manifest["inputs"][0]["shape"] == ["n", 3, 8, 8]


@pytest.mark.parametrize(
    ("batch", "said", "true"), [("n", [1, 4], ["n", 4]), (3, [1, 4], [3, 4]), (3, [3, 4, 1], [3, 4])]
)
def test_what_the_file_says_of_an_output_is_not_believed_against_its_nodes(
    batch: int | str, said: list[int], true: list[int | str], tmp_path: Path
) -> None:
    """A batch freed or fixed at the inputs alone left the manifest with a shape that no run gives."""
    text = f"g (float[{batch},8] x) => (float{said} y) {{ m = MatMul(x, w)  y = Relu(m) }}"
    made = compile(Foreign(text, {"w": (8, 4)}).proto().SerializeToString(), BOARDS, output=tmp_path / "m.edge")
    assert made.manifest["outputs"][0]["shape"] == true
    assert any("output 'y'" in note for note in made.report["source"]["notes"])


@pytest.mark.parametrize("weights", ["float64", "custom"])
def test_what_onnxruntime_cannot_run_is_refused_in_three_lines(weights: str, tmp_path: Path, quiet: None) -> None:
    if weights == "float64":  # it has no such convolution
        text = f"g (double[1,3,8,8] x) => (double[1,4,8,8] y) {{ y = Conv <{PAD}> (x, w) }}"
        foreign = Foreign(text, {"w": np.ones((4, 3, 3, 3))})
    else:
        foreign = Foreign("g (float[2] x) => (float[2] y) { y = Sin(x) }")
    proto = foreign.proto()
    if weights == "custom":
        proto.graph.node[0].domain = "my.own"
    with pytest.raises((UnsupportedError, BadInputError)) as refused:
        compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge")
    assert refused.value.why and refused.value.fix and len(str(refused.value).splitlines()) == 3
    assert not list(tmp_path.iterdir())


def test_maps_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """scikit-learn's converter ends classifiers with ZipMap unless told otherwise."""
    proto = Foreign("g (float[1,2] x) => (float[1,2] y) { y = Relu(x) }").proto()
    proto.graph.output[0].type.ParseFromString(
        onnx.helper.make_sequence_type_proto(
            onnx.TypeProto(map_type=onnx.TypeProto.Map(key_type=7))
        ).SerializeToString()
    )
    with pytest.raises(BadInputError, match="is a map") as refused:
        compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge")
    assert "zipmap" in refused.value.fix


def test_a_cache_may_be_empty_at_first(tmp_path: Path, quiet: None) -> None:
    text = """g (float[1,1,8] x, float[1,p,8] past) => (float[1,8] y, float[1,q,8] present) {
        k = MatMul(x, w)  present = Concat <axis = 1> (past, k)
        y = ReduceMean <axes = [1], keepdims = 0> (present) }"""
    proto = Foreign(text, {"w": (8, 8)}).proto()
    rng = np.random.default_rng(0)
    inputs = [
        data.InputSpec("x", np.dtype(np.float32), (1, 1, 8)),
        data.InputSpec("past", np.dtype(np.float32), (1, "p", 8)),
    ]
    fed = [{"x": rng.standard_normal((1, 1, 8)).astype("f"), "past": np.zeros((1, i, 8), "f")} for i in (0, 1, 2, 0, 3)]
    calib = data.Dataset.of(fed, inputs)
    compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", calib=calib, precision="int8")
    same_interface(tmp_path / "m.edge", proto)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_weights_that_are_no_numbers_stay_as_they_are(value: float, tmp_path: Path, quiet: None) -> None:
    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[0, 0, 0, 0] = value
    proto = Foreign(f"g ({X}) => (float[1,4,8,8] y) {{ y = Conv <{PAD}> (x, w) }}", {"w": weight}).proto()
    made = compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", calib=calibration(proto))
    assert {d.precision for d in made.decisions} == {"float32"}
    same_interface(tmp_path / "m.edge", proto)


@pytest.mark.parametrize(
    "name", ["input:0", "a/b", " space ", "émoji 😀", "n" * 300, "quo\"te's", "back\\slash", "{brace}", "%s",
             "new\nline", "..", "__proto__", "0", "日本語"],
)  # fmt: skip
def test_any_name_is_kept(name: str, tmp_path: Path, quiet: None) -> None:
    proto = Foreign(
        f"g ({X}) => (float[1,4,8,8] y) {{ c = Conv <{PAD}> (x, w)  y = Relu(c) }}", {"w": (4, 3, 3, 3)}
    ).proto()
    new = {old: name + "!" * i for i, old in enumerate(("x", "y", "c", "w"))}
    for node in proto.graph.node:
        node.name = name + node.op_type
        node.input[:], node.output[:] = [new[v] for v in node.input], [new[v] for v in node.output]
    for thing in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        thing.name = new[thing.name]
    onnx.helper.set_model_props(proto, {name: name})
    onnx.save(proto, tmp_path / "model.onnx")
    compile(tmp_path / "model.onnx", BOARDS, output=tmp_path / "m.edge", calib=calibration(proto), precision="int8")
    same_interface(tmp_path / "m.edge", proto)


def test_a_float_answer_to_auto_is_rebuilt_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report told of an int8 that did not ship, which a recipe doesn't make again."""
    monkeypatch.setattr("edgec.stages.choose.time_ratio", lambda *_: 2.0)  # int8 found slower
    proto = MODELS["audio in one dimension"].proto()
    onnx.save(proto, tmp_path / "m.onnx")
    made = compile(tmp_path / "m.onnx", "host", output=tmp_path / "m.edge", calib=calibration(proto))
    assert [d.precision for d in made.decisions] == ["float32"]
    with rt.bundle.open(tmp_path / "m.edge") as bundle:
        recipe = Recipe.from_json(bytes(bundle.read("recipe.json")))
    again = compile(
        tmp_path / "m.onnx", "host", output=tmp_path / "again.edge", calib=calibration(proto), recipe=recipe
    )  # fmt: skip
    assert again.identity == made.identity


def test_a_model_that_draws_at_random_has_no_golden_answers(tmp_path: Path) -> None:
    proto = Foreign(
        "g (float[2,8] x) => (float[2,4] y) { r = RandomNormalLike(x)  a = Add(x, r)  y = MatMul(a, w) }", {"w": (8, 4)}
    ).proto()
    made = compile(proto.SerializeToString(), BOARDS, output=tmp_path / "m.edge", calib=calibration(proto))
    assert made.manifest["golden"]["kind"] == "none"
    same_interface(tmp_path / "m.edge", proto)


def test_the_newest_opset_is_quantized_at_one_that_engines_have() -> None:
    proto = MODELS["very new"].proto()
    made = quantize.quantize_with_data(frontends.load(proto.SerializeToString()).model, calibration(proto))
    assert "QuantizeLinear" in {node.op_type for node in made.model.graph}
    session(onnx_ir.to_proto(made.model).SerializeToString())


def test_outputs_of_text_and_odd_names_can_be_written(tmp_path: Path) -> None:
    """Text was pickled, which numpy refused; "file" is an argument of numpy's own function."""
    text = np.array(["cat", "Wörld"], object)
    given = {"file": np.ones(2, np.float32), "label": text, "a/b:0": np.zeros((), np.int64), "../up": np.ones(1)}
    arrays.write(tmp_path / "host.npz", given)
    source.write_npz(str(tmp_path / "device.npz"), given)
    for written in ("host.npz", "device.npz"):
        back = arrays.read(tmp_path / written)
        assert back.keys() == given.keys() and back["label"].tolist() == text.tolist()
        assert back["a/b:0"].shape == () and back["file"].dtype == np.float32
