"""Real models keep their answers (reads the zoo; skipped where absent). Bars are measured values less a margin.

The models come as the front end gives them (opset 21, shapes inferred) and through the default passes: rooms
don't import each other, tests may.
"""

import importlib.util

import numpy as np
import pytest

from edgec import data, frontends, passes
from edgec import quantize as q
from edgec.quantize.session import Session


def load(folder):
    model = frontends.load(folder / "model.onnx").model
    dataset = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    passes.run(model)
    spec = importlib.util.spec_from_file_location(f"zoo_{folder.name}", folder / "eval.py")
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    return model, dataset, case


def compare(model, quantized, case, limit):
    reference, tested = Session(model), Session(quantized)
    pairs = [(reference.run(f), tested.run(f)) for f in case.feeds("eval", limit)]
    expected, got = [p[0] for p in pairs], [p[1] for p in pairs]
    return data.sqnr_db([e[0] for e in expected], [g[0] for g in got]), data.agreement(expected, got).value


@pytest.mark.parametrize(
    ("name", "plain", "corrected", "agree"),
    [("resnet8_cifar10", 22, 27, 0.98), ("dscnn_kws", 25, 32, 0.99), ("ppocr_cls", 22, 28, 0.985)],
)
def test_small_classifiers(zoo, name, plain, corrected, agree):
    model, dataset, case = load(zoo(name))
    for effort, bar in (("plain", plain), ("default", corrected)):
        made = q.quantize_with_data(model, dataset, effort=effort)
        sqnr, same = compare(model, made.model, case, 400)
        assert sqnr > bar and same > (agree if effort == "default" else agree - 0.025)
    report = q.fusion_report(made.model)
    spared = made.spared.stretch.floats if made.spared is not None and made.spared.stretch is not None else ()
    assert report.unfused == () and len(report.float_layers) <= len(made.worth.dropped) + len(spared)
    score = data.Evaluation(case.evaluate, name).score(Session(made.model).run)
    assert score.value >= data.Evaluation(case.evaluate, name).score(Session(model).run).value - 0.01


def test_efficientnet_lite0(zoo):
    model, dataset, case = load(zoo("efficientnet_lite0"))
    made = q.quantize_with_data(model, dataset.select(0, None, 3))
    assert made.correction.kept and made.correction.after > 24.5
    assert len(frontends.save_bytes(made.model)) <= 5.2e6
    sqnr, same = compare(model, made.model, case, 80)
    assert sqnr > 24.5 and same > 0.96
    report = q.fusion_report(made.model)
    assert report.integer["QLinearConv"] >= 46 and report.unfused == ()


def test_speech_detector_with_lstm(zoo):
    model, dataset, case = load(zoo("silero_vad"))
    made = q.quantize_with_data(model, dataset)
    whole = case.evaluate(Session(model).run, 2)["value"]
    assert case.evaluate(Session(made.model).run, 2)["value"] > whole - 0.005


def test_face_detector_keeps_its_boxes(zoo):
    model, dataset, case = load(zoo("ultraface"))
    made = q.quantize_with_data(model, dataset)
    answer = case.evaluate(Session(made.model).run, 12)
    assert answer["value"] > 0.97 and answer["mean_iou"] > 0.965


def test_sentence_embeddings_do_not_collapse(zoo):
    model, dataset, case = load(zoo("minilm_sts"))
    made = q.quantize_with_data(model, dataset.select(0, None, 8), effort="plain")
    reference, tested = Session(model), Session(made.model)
    cosines = [data.cosine(reference.run(f)[0], tested.run(f)[0]) for f in case.feeds("eval", 60)]
    assert np.percentile(cosines, 5) > 0.98


def test_file_type_model_that_crashes_other_quantizers(pip_model):
    imported = frontends.load(pip_model("magika/models/standard_v3_3/model.onnx"))
    model = imported.model
    passes.run(model)
    rng = np.random.default_rng(3)
    (value,) = model.graph.inputs
    feeds = [{value.name: rng.integers(0, 257, (1, 2048)).astype(value.dtype.numpy())} for _ in range(12)]
    dataset = data.Dataset.of(feeds, model.graph.inputs)
    made = q.quantize_with_data(model, dataset)
    a, b = Session(model), Session(made.model)
    assert data.agreement([a.run(f) for f in feeds], [b.run(f) for f in feeds]).value >= 0.9
