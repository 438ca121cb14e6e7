"""The emitter: what a payload is called and needs, what is refused, the same bytes each time, names and types kept."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgec_runtime.errors import MissingError, UnsupportedError
from edgec_targets import board
from edgec_targets.emitters import litert
from edgec_targets.emitters.litert import EMITTER, write

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import Written, convert

Parse = Callable[..., ir.Model]
SMALL = "g (float[N,3,8,8] image) => (float[N,4,1,1] y) <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}> { [c] a = Conv(image, w) y = GlobalAveragePool(a) }"  # noqa: E501


def test_a_payload(parse: Parse) -> None:
    built = EMITTER.emit(parse(SMALL), board("rpi5"), precision="float32")
    file, data = built.files["model"]
    assert (built.engine, file, built.portable, built.native_code) == ("litert", "model.float32.tflite", True, False)
    assert data[4:8] == b"TFL3" and built.options == {"threads": 4} and built.isa == ("asimd",)
    assert built.engine_version == litert.ENGINE_VERSION and built.opset == 21 and built.numbers == "float32"
    assert built.memory is not None and built.memory > 0
    assert EMITTER.emit(parse(SMALL), board("rpi5"), precision="float32").files == built.files, "not deterministic"
    assert EMITTER.version.startswith("2.")


def test_names_types_and_layout_are_the_models_own(parse: Parse) -> None:
    data = write(parse(SMALL))
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    got = prove.run(data, {"image": image})
    assert [*got] == ["y"] and got["y"].shape == (1, 4, 1, 1) and got["y"].dtype == np.float32


def test_buffers_begin_at_multiples_of_16() -> None:
    from edgec_targets.emitters.litert.file import File
    from edgec_targets.emitters.litert.schema import schema

    file = File()
    a, b = file.tensor((3,), "float32"), file.constant(np.array([1, 2, 3], np.float32))
    out = file.tensor((3,), "float32")
    file.operate("ADD", [a, b], [out], "AddOptions")
    data = file.finish([("a", a)], [("y", out)])
    assert data.find(b.data.tobytes() if b.data is not None else b"") % 16 == 0
    model = schema().Model.GetRootAs(data)
    assert model.SignatureDefs(0).Inputs(0).Name() == b"a"


def test_every_node_that_fails_is_named(parse: Parse) -> None:
    model = parse(
        """g (float[1,1,4,4] x, float[1,2,2,2] z, float[1,2,4,4,4] v, float[2,2,2,2,2] w)
           => (float[1,1,2,2] y, float[1,2,3,3,3] u) {
           [first] a = GridSample(x, z) y = Relu(a) [second] u = Conv(v, w) }"""
    )
    problems = EMITTER.problems(model, board("rpi4"))
    assert [(p.node, p.operator) for p in problems] == [("first", "GridSample"), ("second", "Conv")]
    assert all(p.why and p.fix for p in problems)
    with pytest.raises(UnsupportedError, match=r"node first \(GridSample\).*also second \(Conv\)") as e:
        EMITTER.emit(model, board("rpi4"), precision="float32")
    assert e.value.exit_code == 4 and e.value.code == "E431"
    assert EMITTER.problems(parse(SMALL), board("rpi4")) == []


def test_a_node_that_contradicts_itself_is_a_problem(parse: Parse) -> None:
    model = parse("g (float[2,3] x) => (float[2,3] y) <float[4] c = {1,2,3,4}> { [odd] y = Add(x, c) }")
    (problem,) = EMITTER.problems(model, board("rpi4"))
    assert problem.node == "odd" and problem.why


def test_only_the_batch_may_be_free(parse: Parse) -> None:
    (problem,) = EMITTER.problems(parse("g (float[N,C,4] x) => (float[N,C,4] y) { y = Relu(x) }"), board("rpi4"))
    assert problem.node == "input 'x'" and "--shape x=" in problem.fix


def test_a_board_without_the_engine_or_its_release(parse: Parse) -> None:
    (problem,) = EMITTER.problems(parse(SMALL), replace(board("rpi5"), engines={"onnxruntime": ">=1.18"}))
    assert "names no litert" in problem.why and problem.fix
    (problem,) = EMITTER.problems(parse(SMALL), replace(board("rpi5"), engines={"litert": "<2"}))
    assert EMITTER.version in problem.why
    with pytest.raises(UnsupportedError):
        EMITTER.emit(parse(SMALL), replace(board("rpi5"), engines={"litert": "<2"}), precision="float32")


def test_without_the_package_the_extra_is_named(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(MissingError, match="ai-edge-litert") as e:
        write(parse(SMALL))
    assert e.value.exit_code == 10 and "edgec[litert]" in e.value.fix


def test_a_file_that_the_engine_refuses_or_dies_of_is_a_problem() -> None:
    from edgec_targets.emitters.litert.file import File

    assert "refuses" in getattr(prove.loads(b"no flatbuffer at all, but long enough"), "why", "")
    file = File()
    a, out = file.tensor((3,), "int8"), file.tensor((3,), "int8")  # without a scale: its ADD ends the process
    file.operate("ADD", [a, a], [out], "AddOptions", fusedActivationFunction=0)
    problem = prove.loads(file.finish([("a", a)], [("y", out)]))
    assert problem is not None and "refuses" in problem.why


def test_half_precision_stores_half_the_bytes_and_answers_nearly_the_same(parse: Parse) -> None:
    text = "g (float[1,64] x, float[64,64] w) => (float[1,64] y) { a = MatMul(x, w) y = Relu(a) }"
    model = parse(text)
    value = model.graph.inputs[1]
    model.graph.inputs.remove(value)
    value.const_value = ir.Tensor(np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32), name="w")
    model.graph.register_initializer(value)
    whole, half = write(model), write(model, half=True)
    assert len(half) < 0.6 * len(whole)
    x = np.random.default_rng(1).standard_normal((1, 64)).astype(np.float32)
    np.testing.assert_allclose(prove.run(half, {"x": x})["y"], prove.run(whole, {"x": x})["y"], atol=0.05)
    built = EMITTER.emit(model, board("rpi5"), precision="float16")
    assert built.numbers == "half" and built.files["model"] == ("model.float16.tflite", half)


def test_a_model_in_half_precision_keeps_its_types_at_the_border(parse: Parse) -> None:
    model = parse("g (float16[2,3] x) => (float16[2,3] y) { a = Sigmoid(x) y = Add(a, x) }")
    x = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float16)
    got = prove.run(write(model), {"x": x})["y"]
    want = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0]
    assert got.dtype == np.float16
    np.testing.assert_allclose(got.astype(np.float32), want.astype(np.float32), atol=2e-3)


def test_outputs_that_are_inputs_constants_or_twice_the_same(parse: Parse) -> None:
    model = parse(
        """g (float[2] x) => (float[2] same, float[2] y, float[2] z, float[2] k) <float[2] c = {1, 2}> {
           same = Identity(x) y = Relu(x) z = Identity(y) k = Identity(c) }"""
    )
    got = prove.run(write(model), {"x": np.array([-1, 3], np.float32)})
    for name, want in (("same", [-1, 3]), ("y", [0, 3]), ("z", [0, 3]), ("k", [1, 2])):
        np.testing.assert_array_equal(got[name], np.array(want, np.float32))


def test_shape_arithmetic_and_constant_conditions_fold(parse: Parse) -> None:
    model = parse(
        """g (float[N,4,6] x) => (float[A,B] y) <int64 zero = {0}, int64[1] minus = {-1}, int64[1] ax = {0}> {
           s = Shape(x) n = Gather(s, zero) m = Unsqueeze(n, ax) t = Concat<axis = 0>(m, minus) y = Reshape(x, t) }"""
    )
    written = convert(model)
    assert written.operators == {"RESHAPE": 1}


def test_an_if_on_an_input_computes_both_and_selects(parse: Parse) -> None:
    model = parse(
        """g (float[1,4] x, bool c) => (float[1,4] y) {
           y = If (c) <then_branch = t () => (float[1,4] p) { p = Sin(x) },
                       else_branch = e () => (float[1,4] q) { q = Neg(x) }> }"""
    )
    data, x = write(model), np.array([[1, 2, 3, 4]], np.float32)
    np.testing.assert_allclose(prove.run(data, {"x": x, "c": np.array(True)})["y"], np.sin(x), rtol=1e-6)
    np.testing.assert_array_equal(prove.run(data, {"x": x, "c": np.array(False)})["y"], -x)


def test_activations_are_fused_only_where_they_are_tflites_own(parse: Parse) -> None:
    text = """g (float[1,4] x, float[1,4] z) => (float[1,4] y) <float lo = {0}, float hi = {%s}> {
              a = Add(x, z) y = Clip(a, lo, hi) }"""
    assert convert(parse(text % 6)).operators == {"ADD": 1}
    assert convert(parse(text % 5)).operators == {"ADD": 1, "MAXIMUM": 1, "MINIMUM": 1}
    twice = "g (float[1,4] x, float[1,4] z) => (float[1,4] y, float[1,4] a) { a = Add(x, z) y = Relu(a) }"
    assert convert(parse(twice)).operators == {"ADD": 1, "RELU": 1}


def test_the_flattening_before_a_matrix_costs_nothing(parse: Parse) -> None:
    model = parse(
        """g (float[1,2,4,1] x) => (float[1,3] y) <float[3,8] w = {1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8,1,2,3,4,5,6,7,8}> {
           f = Flatten(x) y = Gemm<transB = 1>(f, w) }"""
    )
    assert convert(model).operators["FULLY_CONNECTED"] == 1
    x = np.arange(8, dtype=np.float32).reshape(1, 2, 4, 1)
    want = ort.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": x})[0]
    np.testing.assert_allclose(prove.run(write(model), {"x": x})["y"], want)


def test_memory_is_the_file_the_copies_and_what_is_alive(parse: Parse) -> None:
    """Two convolutions in a row over an image: its copy for the kernels, and two images at a time."""
    text = """g (float[1,8,32,32] x, float[8,8,1,1] w) => (float[1,8,32,32] y) {
      a = Transpose<perm = [0,2,3,1]>(x) b = Relu(a) c = Sigmoid(b) d = Transpose<perm = [0,3,1,2]>(c)
      e = Conv(d, w) f = Transpose<perm = [0,2,3,1]>(e) y = Transpose<perm = [0,3,1,2]>(f) }"""
    model = parse(text)
    (weights,) = [v for v in model.graph.inputs if v.name == "w"]
    model.graph.inputs.remove(weights)
    weights.const_value = ir.Tensor(np.ones((8, 8, 1, 1), np.float32), name="w")
    model.graph.register_initializer(weights)
    written = convert(model)
    assert written.data is not None
    image, filters = 4 * 8 * 32 * 32, 4 * (64 + 8)
    assert len(written.data) + filters + 3 * image <= written.memory <= len(written.data) + filters + 4 * image
    assert written.told()[0].endswith("of them transpositions")
    assert convert(model, half=True).memory > 0


def test_notes_are_told_by_reason() -> None:
    notes = (*(f"n{k}: rounds" for k in range(11)), "m: differs")
    told = Written(b"", [], {"ADD": 3, "TRANSPOSE": 1}, notes).told()
    assert told == (
        "4 operators, 1 of them a transposition", "rounds (11 nodes, the first n0)", "differs (node m)"
    )  # fmt: skip
    assert Written(b"", [], {"ADD": 3}).told() == ("3 operators, none of them transpositions",)
