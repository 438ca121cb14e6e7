"""The emitter: real sessions on real models, the board's options, the release range, errors that name the node."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgec_runtime.errors import UnsupportedError
from edgec_targets import board
from edgec_targets.emitters.onnxruntime import EMITTER, releases
from edgec_targets.emitters.onnxruntime.session import open_session, options_of, session_options

SMALL = ("resnet8_cifar10", "dscnn_kws", "ppocr_cls", "silero_vad", "ultraface")


def feeds(session: ort.InferenceSession) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    return {
        i.name: rng.standard_normal([d if isinstance(d, int) else 1 for d in i.shape]).astype(np.float32)
        if i.type == "tensor(float)"
        else np.ones([d if isinstance(d, int) else 1 for d in i.shape], np.int64)
        for i in session.get_inputs()
    }


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("on", ["host", "rpi4"])
def test_a_zoo_model_is_emitted_and_gives_the_sources_answers(zoo: Callable[[str], Path], name: str, on: str) -> None:
    path = zoo(name) / "model.onnx"
    model = ir.load(path)
    built = EMITTER.emit(model, board(on), precision="float32")
    file, blob = built.files["model"]
    assert (built.engine, file, built.portable, built.native_code) == ("onnxruntime", "model.float32.onnx", True, False)
    assert blob == EMITTER.emit(ir.load(path), board(on), precision="float32").files["model"][1], "not deterministic"
    before = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    after = open_session(blob, built.options)
    given = feeds(before)
    for want, got in zip(before.run(None, given), after.run(None, given), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    weights = sum(t.nbytes for t in (v.const_value for v in model.graph.initializers.values()) if t is not None)
    assert built.memory is not None and weights <= built.memory <= weights + 200e6
    assert onnx.load_model_from_string(blob).opset_import[0].version == built.opset


def test_an_int8_model_is_emitted_smaller_and_runs(zoo: Callable[[str], Path], tmp_path: Path) -> None:
    from onnxruntime import quantization as q

    path = zoo("resnet8_cifar10") / "model.onnx"
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = [feeds(session) for _ in range(2)]

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    q.quantize_static(path, tmp_path / "int8.onnx", Reader(), per_channel=True)
    float32 = EMITTER.emit(ir.load(path), board("rpi5"), precision="float32")
    int8 = EMITTER.emit(ir.load(tmp_path / "int8.onnx"), board("rpi5"), precision="int8")
    assert int8.files["model"][0] == "model.int8.onnx"
    assert int8.memory is not None and float32.memory is not None and int8.memory < float32.memory / 2
    assert open_session(int8.files["model"][1], int8.options).run(None, images[0])[0].shape == (1, 10)


def test_options_are_what_the_board_says_and_no_more() -> None:
    assert options_of(board("host")) == {}
    assert options_of(board("rpi-zero2w")) == {"threads": 4, "spinning": False, "arena": False}
    assert options_of(board("rpi5")) == {"threads": 4, "spinning": False}
    made = session_options({"threads": 3, "spinning": False, "arena": False})
    assert made.intra_op_num_threads == 3
    assert made.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert made.enable_cpu_mem_arena is False
    default = session_options({})
    assert (default.intra_op_num_threads, default.enable_cpu_mem_arena) == (0, True)


def test_the_payload_asks_for_the_architectures_baseline_only(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    assert EMITTER.emit(m, board("rpi5"), precision="float32").isa == ("asimd",)
    assert EMITTER.emit(m, replace(board("host"), arch="x86_64"), precision="float32").isa == ()


@pytest.mark.parametrize(
    ("opset", "ir_version", "needs"),
    [
        (13, 8, ">=1.16,<2"),
        (20, 9, ">=1.17,<2"),
        (21, 10, ">=1.18,<2"),
        (21, 11, ">=1.23,<2"),
        (22, 10, ">=1.21,<2"),
        (99, 8, None),
    ],
)
def test_the_release_range_follows_from_opset_and_ir_version(opset: int, ir_version: int, needs: str | None) -> None:
    assert releases.requirement(opset, ir_version) == needs


def test_newer_releases_never_take_less() -> None:
    table = list(releases.table().values())
    for older, newer in itertools.pairwise(table):
        assert older["opset"] <= newer["opset"] and older["ir"] <= newer["ir"]


def test_the_installed_release_is_as_the_table_says() -> None:
    from edgec_targets.probe.releases import newest

    known = releases.table().get(ort.__version__)
    if known is None:
        pytest.skip(f"onnxruntime {ort.__version__} was not measured")
    assert newest() == known


def test_a_refused_node_is_named(parse: Callable[..., ir.Model]) -> None:
    text = """g (float[1,4,8] x, float[8] w) => (float[1,4,8] y) {
        [first] a = com.microsoft.BiasAdd(x, w, x) [second] y = com.microsoft.BiasAdd(a, w, x) }"""
    m = parse(text, domains=', "com.microsoft" : 1')
    with pytest.raises(UnsupportedError, match="node first") as e:
        EMITTER.emit(m, board("rpi4"), precision="float32")
    assert e.value.exit_code == 4
    assert "1 more" in e.value.what and "com.microsoft::BiasAdd-1" in e.value.why and "Replace" in e.value.fix


def test_what_the_table_does_not_know_the_session_decides(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[4] x) => (float[4] y) { [odd] y = com.example.Thing(x) }", domains=', "com.example" : 1')
    (problem,) = EMITTER.problems(m, board("host"))
    assert "com.example" in problem.why and problem.fix


def test_a_board_with_too_old_an_engine(parse: Callable[..., ir.Model]) -> None:
    m = parse("g (float[4] x) => (float[4] y) { y = Relu(x) }", opset=21)
    old = replace(board("rpi5"), engines={"onnxruntime": ">=1.16,<1.18"})
    (problem,) = EMITTER.problems(m, old)
    assert "opset 21" in problem.why and "1.17.3" in problem.why
    (problem,) = EMITTER.problems(m, replace(old, engines={"litert": ">=2"}))
    assert "litert" in problem.why
