"""Real models in 16 bits (the zoo's and pip's; skipped where absent). Bars are measured values less a margin."""

import importlib.util
from itertools import islice

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import data, frontends, passes
from edgec.quantize.corrections.judge import before_probabilities
from edgec.quantize.half import KINDS, simulated, to_half
from edgec.quantize.session import Session


def load(folder):
    model = frontends.load(folder / "model.onnx").model
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", inputs).select(0, None, 4)
    passes.run(model)
    spec = importlib.util.spec_from_file_location(f"zoo_{folder.name}", folder / "eval.py")
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    return before_probabilities(model), calibration, list(islice(case.feeds("eval"), 6))


def db(model, form, feeds):
    a, b = Session(model), Session(form)
    return data.sqnr_db([x for f in feeds for x in a.run(f)], [x for f in feeds for x in b.run(f)])


@pytest.mark.parametrize(
    ("name", "weights", "compute", "casts"),
    [
        ("dscnn_kws", 65, 60, 2),
        ("resnet8_cifar10", 64, 56, 2),
        ("ppocr_cls", 58, 48, 2),
        ("silero_vad", 62, 57, 6),
    ],
)
def test_zoo(zoo, name, weights, compute, casts):
    model, calibration, feeds = load(zoo(name))
    stored = to_half(model)
    assert db(model, stored.model, feeds) > weights
    half = to_half(model, mode="compute", data=calibration)
    content = frontends.save_bytes(half.model)
    onnx.checker.check_model(content, full_check=True)
    assert db(model, simulated(half.model, KINDS["float16"].onnx), feeds) > compute
    assert half.report.casts <= casts and len(half.report.kept) < 0.6 * sum(half.report.half.values())
    Session(half.model).run(feeds[0])  # onnxruntime loads it, and runs it in float32 where it must
    assert len(content) < 0.57 * len(frontends.save_bytes(model))


def test_bodies_hold_the_weights_of_silero(pip_model):
    """Both sample rates live in the branches of an If, recurrent layers and all."""
    model = frontends.load(pip_model("silero_vad/data/silero_vad.onnx")).model
    passes.run(model)
    feed = {
        "input": np.random.default_rng(0).normal(0, 0.3, (1, 576)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    }
    for mode, bar in (("weights", 60), ("compute", 60)):
        half = to_half(model, mode=mode)
        assert db(model, half.model, [feed]) > bar
        assert len(frontends.save_bytes(half.model)) < 0.7 * len(frontends.save_bytes(model))
        lstms = [n for g in half.model.graphs() for n in g if n.op_type == "LSTM"]
        assert lstms and all(v.dtype == ir.DataType.FLOAT for n in lstms for v in n.outputs if v.dtype is not None)
