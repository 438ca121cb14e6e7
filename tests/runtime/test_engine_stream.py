"""Models with state, fed piece by piece, by each engine, with numpy and without."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import edgec_runtime as rt
from edgec_runtime.engines import litert_capi, onnxruntime_capi
from edgec_runtime.errors import BadInputError, UsageError

ENGINES = [
    pytest.param("onnxruntime", marks=pytest.mark.skipif(onnxruntime_capi.library() is None, reason="no library")),
    pytest.param("onnxruntime package"),
    pytest.param("litert", marks=pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is missing")),
]


def running_sums(rows="rows"):
    """total' = total + x · 1, last' = x: two parts of state; y = total' ."""
    from onnx import helper, numpy_helper

    def value(name, shape):
        return helper.make_tensor_value_info(name, 1, shape)

    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["added"], keepdims=1),
        helper.make_node("Add", ["total", "added"], ["totaln"]),
        helper.make_node("Mul", ["totaln", "one"], ["y"]),
        helper.make_node("Sub", ["x", "last"], ["change"]),
        helper.make_node("Mul", ["x", "one"], ["lastn"]),
    ]
    graph = helper.make_graph(
        nodes, "sums",
        [value("x", [rows, 3]), value("total", [rows, 1]), value("last", [rows, 3])],
        [value("y", [rows, 1]), value("change", [rows, 3]), value("totaln", [rows, 1]), value("lastn", [rows, 3])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes"),
         numpy_helper.from_array(np.array([1], np.float32), "one")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def model(request, kit, tmp_path, monkeypatch):
    """The model of `running_sums` in an engine; request.param names it."""
    engine, _, way = request.param.partition(" ")
    if engine == "onnxruntime":
        if way:
            monkeypatch.setenv(onnxruntime_capi.VARIABLE, "/nowhere")
        else:
            monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
        kit.files = {"payloads/m": running_sums().SerializeToString()}
        rows = "rows"
    else:
        import onnx_ir as ir

        from edgec_targets.emitters.litert.conversion import convert

        rows = 1
        written = convert(ir.serde.deserialize_model(running_sums(rows)))
        assert written.data is not None, written.problems
        kit.files = {"payloads/m": written.data}
    shapes = {"x": 3, "total": 1, "last": 3}, {"y": 1, "change": 3, "totaln": 1, "lastn": 3}
    for side, tensors in zip(("inputs", "outputs"), shapes, strict=True):
        kit.manifest[side] = [
            {"name": name, "dtype": "float32", "shape": [rows, size], "layout": None} for name, size in tensors.items()
        ]
    kit.manifest["payloads"] = [
        kit.payload(engine=engine, engine_version=">=1", files={"model": "payloads/m"}, options={"threads": 1})
    ]
    with rt.load(kit.write(tmp_path), trust=kit.trust) as loaded:
        yield loaded


STATE = {"totaln": "total", "lastn": "last"}
every_engine = pytest.mark.parametrize("model", ENGINES, indirect=True)
any_engine = pytest.mark.parametrize("model", ["onnxruntime package"], indirect=True)
PIECES = np.array([[[1, 2, 3]], [[4, 5, 6]], [[-1, 0, 1]]], np.float32)


@every_engine
@pytest.mark.parametrize("without_numpy", [False, True], ids=["numpy", "views"])
def test_the_state_goes_from_run_to_run(model, without_numpy):
    with model.stream(STATE) as stream:
        for _ in range(2):  # the second time anew from zeros
            total, last = 0.0, np.zeros((1, 3), np.float32)
            for piece in PIECES:
                answer = stream.run({"x": memoryview(piece) if without_numpy else piece})
                total += piece.sum()
                assert list(answer) == ["y", "change"]
                assert np.asarray(answer["y"]).tolist() == [[total]]
                assert np.array_equal(np.asarray(answer["change"]), piece - last)
                last = piece
            assert np.asarray(stream.state["total"]).tolist() == [[total]]
            stream.reset()
            assert stream.state == {}


@every_engine
def test_streams_of_one_model_are_apart_even_at_once(model):
    streams = [model.stream(STATE) for _ in range(4)]
    wrong = []

    def work(number):
        for step in range(1, 100):
            answer = streams[number].run({"x": np.full((1, 3), number, np.float32)})
            if answer["y"][0, 0] != 3 * number * step:
                wrong.append((number, step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@every_engine
def test_a_state_is_kept_given_and_taken_up_again(model):
    stream = model.stream(STATE, initial={"total": np.array([[100]], np.float32)})
    assert stream.run({"x": PIECES[0]})["y"][0, 0] == 106
    kept = stream.state
    assert stream.run({"x": PIECES[1]})["y"][0, 0] == 121
    stream.reset(kept)
    assert stream.run({"x": PIECES[1]})["y"][0, 0] == 121


@every_engine
def test_a_run_that_fails_leaves_the_state(model):
    stream = model.stream(STATE)
    stream.run({"x": PIECES[0]})
    with pytest.raises(BadInputError):
        stream.run({"x": PIECES[0].astype(np.float64)})
    with pytest.raises(BadInputError, match="'x' is missing"):
        stream.run({})
    with pytest.raises(UsageError, match="the stream's state"):
        stream.run({"x": PIECES[0], "total": np.zeros((1, 1), np.float32)})
    assert stream.run({"x": PIECES[1]})["y"][0, 0] == 21


@pytest.mark.parametrize("model", ENGINES[:2], indirect=True)
def test_free_sizes_are_those_of_the_first_piece(model):
    stream = model.stream(STATE)
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    stream.run({"x": rows})
    assert stream.run({"x": rows})["y"].tolist() == (2 * rows.sum(axis=1, keepdims=True)).tolist()


@any_engine
def test_what_is_no_state_is_refused_with_what_could_be(model):
    with pytest.raises(UsageError, match="not named") as caught:
        model.stream()
    assert "'totaln': 'total'" in caught.value.why and "'lastn': 'last'" in caught.value.why
    for state, said in (
        ({"nothing": "total"}, "no output 'nothing'"),
        ({"totaln": "nothing"}, "no input 'nothing'"),
        ({"totaln": "x"}, "no state for the input 'x'"),
        ({"totaln": "total", "y": "total"}, "same input"),
    ):
        with pytest.raises(UsageError, match=said):
            model.stream(state)
    with pytest.raises(UsageError, match="'x' is no input of the state"):
        model.stream(STATE, initial={"x": PIECES[0]})
    assert repr(model.stream(STATE)) == "<Stream of tiny (totaln → total, lastn → last)>"


@any_engine
def test_a_closed_model_ends_its_streams(model):
    stream = model.stream(STATE)
    stream.run({"x": PIECES[0]})
    model.close()
    with pytest.raises(UsageError, match="closed"):
        stream.run({"x": PIECES[0]})


@pytest.mark.skipif(litert_capi.library() is None, reason="ai-edge-litert is missing")
def test_speech_detection_by_stream(zoo, tmp_path):
    """Silero VAD in LiteRT: 8 calls by stream are the calls with the LSTM's state carried by hand."""
    import onnx_ir as ir

    from edgec_runtime.model import Model
    from edgec_runtime.payload import StoredPayload
    from edgec_targets.emitters.litert.conversion import convert

    folder = zoo("silero_vad")
    written = convert(ir.load(folder / "model.onnx"))
    assert written.data is not None, written.problems
    (tmp_path / "m.tflite").write_bytes(written.data)
    entry = {"id": "p", "engine": "litert", "engine_version": ">=2", "files": {"model": "m"}}
    executable = litert_capi.Engine().load(StoredPayload(entry, {"model": str(tmp_path / "m.tflite")}), {"threads": 1})
    manifest = {
        side: [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "layout": None} for t in tensors]
        for side, tensors in (("inputs", executable.inputs), ("outputs", executable.outputs))
    }
    manifest |= {"preprocessing": [], "postprocessing": []}
    model = Model(executable, manifest, {"app": {"name": "vad"}, "payload": "p", "engine": "litert"}, numpy=None)
    sound = np.random.default_rng(0).normal(size=(8, 1, 576)).astype(np.float32) / 8
    h = c = np.zeros((1, 1, 128), np.float32)
    stream = model.stream({"hn": "h", "cn": "c"})
    for piece in sound:
        by_hand = model.run({"input": piece, "h": h, "c": c})
        h, c = by_hand["hn"], by_hand["cn"]
        assert np.array_equal(stream.run({"input": piece})["speech_probs"], by_hand["speech_probs"])
    assert np.abs(h).max() > 0
