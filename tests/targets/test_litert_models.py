"""Whole models: the zoo and what pip packages bring, each beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("ai_edge_litert")
import onnxruntime as ort

from edgec_targets.emitters.litert import prove
from edgec_targets.emitters.litert.conversion import Written, convert

ZOO = {
    "dscnn_kws": 1,
    "resnet8_cifar10": 0,
    "ppocr_cls": 1,
    "silero_vad": 0,
    "ultraface": 3,
    "efficientnet_lite0": 1,
    "minilm_sts": 24,
}
"""The transpositions that are left: an image's at the input, or a folded first layer's (`stems`); around the
boxes of UltraFace, cut and joined in halves; four in each of MiniLM's six attentions."""


def compared(model: ir.Model, seed: int = 0) -> tuple[Written, float]:
    """The conversion, and the worst output's SQNR in dB against ONNX Runtime on random inputs."""
    written = convert(model)
    assert written.data is not None, written.problems
    rng, feeds = np.random.default_rng(seed), {}
    for value in model.graph.inputs:
        dims = [d if isinstance(d, int) else 1 for d in value.shape or ()]
        assert value.dtype is not None
        if value.dtype == ir.DataType.FLOAT:
            feeds[str(value.name)] = rng.standard_normal(dims).astype(np.float32)
        else:
            feeds[str(value.name)] = rng.integers(0, 100, dims).astype(value.dtype.numpy())
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    got, worst = prove.run(written.data, feeds), np.inf
    for output, want in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        error = np.square(want.astype(np.float64) - got[output.name]).sum()
        worst = min(worst, 10 * np.log10(np.square(want.astype(np.float64)).sum() / error) if error else np.inf)
    return written, float(worst)


SLOW = ("minilm_sts",)
CASES = [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in ZOO]


@pytest.mark.parametrize("case", CASES)
def test_zoo_models_convert_wholly(zoo: Callable[[str], Path], case: str) -> None:
    from edgec import frontends, passes

    model = frontends.load(zoo(case) / "model.onnx").model
    passes.run(model)
    written, db = compared(model)
    assert db > 100
    assert written.transposes == ZOO[case]


PIP = {
    "silero_vad/data/silero_vad_16k_op15.onnx": {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    "silero_vad/data/silero_vad_op18_ifless.onnx": {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    "magika/models/standard_v3_3/model.onnx": {"bytes": (1, 2048)},
}


@pytest.mark.parametrize("name", PIP)
def test_models_of_pip_packages(pip_model: Callable[[str], Path], name: str) -> None:
    """As they come, without edgec's passes: the writer folds for itself."""
    proto = onnx.load(pip_model(name))
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, PIP[name][value.name], strict=True):
            dim.dim_value = size
    assert compared(ir.from_proto(proto))[1] > 100


def test_a_branch_that_cannot_take_the_shape_is_named(pip_model: Callable[[str], Path]) -> None:
    """silero_vad.onnx asks for the sample rate at run time, and its branch for 8 kHz can't take 576 samples."""
    proto = onnx.load(pip_model("silero_vad/data/silero_vad.onnx"))
    sizes: dict[str, tuple[int, ...]] = {"input": (1, 576), "state": (2, 1, 128), "sr": ()}
    for value in proto.graph.input:
        for dim, size in zip(value.type.tensor_type.shape.dim, sizes[value.name], strict=True):
            dim.dim_value = size
    written = convert(ir.from_proto(proto))
    assert written.data is None and any(p.operator == "LSTM" for p in written.problems)
