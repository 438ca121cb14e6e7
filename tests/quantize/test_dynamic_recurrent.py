"""LSTM with int8 weights as onnxruntime's DynamicQuantizeLSTM; GRU and RNN stay float."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgec.data.metrics import ratio_db
from edgec.errors import UnsupportedError
from edgec.quantize.dynamic import quantize_dynamic
from edgec.quantize.session import Session

INPUT, HIDDEN, STEPS = 24, 16, 7


def recurrent(build, kind: str, direction: str, seed: int = 0, **attributes: int) -> ir.Model:
    rng = np.random.default_rng(seed)
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    directions = 2 if direction == "bidirectional" else 1
    constants = {
        "w": rng.standard_normal((directions, gates * HIDDEN, INPUT)) / 5,
        "r": rng.standard_normal((directions, gates * HIDDEN, HIDDEN)) / 4,
        "b": rng.standard_normal((directions, 2 * gates * HIDDEN)) / 10,
    }
    outputs = ["y", "h"] + (["c"] if kind == "LSTM" else [])
    given = {"direction": direction, "hidden_size": HIDDEN, **attributes}
    shape = [1, STEPS, INPUT] if attributes.get("layout") else [STEPS, 1, INPUT]
    arrays = {k: v.astype(np.float32) for k, v in constants.items()}
    return build([(kind, ["x", "w", "r", "b"], outputs, given)], {"x": shape}, outputs, arrays)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_an_lstm_is_near_its_float_self(build, direction: str, bits: int, per_channel: bool) -> None:
    model = recurrent(build, "LSTM", direction)
    made = quantize_dynamic(model, weight_bits=bits, per_channel=per_channel).model
    assert Counter(n.op_type for n in made.graph) == {"DynamicQuantizeLSTM": 1}
    assert [v.name for v in made.graph.outputs] == ["y", "h", "c"]
    feed = {"x": np.random.default_rng(1).standard_normal((STEPS, 1, INPUT)).astype(np.float32)}
    for expected, got in zip(Session(model).run(feed), Session(made).run(feed), strict=True):
        assert ratio_db(float((expected**2).sum()), float(((expected - got) ** 2).sum())) > (22 if bits == 7 else 26)


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_others_stay_float(build, kind: str) -> None:
    with pytest.raises(UnsupportedError):
        quantize_dynamic(recurrent(build, kind, "forward"))


def test_why_an_lstm_stays_float(build) -> None:
    model = recurrent(build, "LSTM", "forward")
    model.graph.initializers["w"].const_value = ir.Tensor(np.full((1, 4 * HIDDEN, INPUT), np.inf, np.float32), name="w")
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        quantize_dynamic(model)
    with pytest.raises(UnsupportedError, match="excluded"):
        quantize_dynamic(recurrent(build, "LSTM", "forward"), exclude=["LSTM"])
