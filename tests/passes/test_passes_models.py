"""Each pass on each real model: real inputs, answers kept, valid afterwards; what is expected to be gone is gone."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgec import passes
from edgec.passes.check import outputs_check

REPO = Path(__file__).parents[2]
ZOO = Path(os.environ.get("EDGEC_ZOO", REPO.parent / "shared" / "zoo"))
PIP = REPO / "build" / "models"

ZOO_CASES = ("dscnn_kws", "efficientnet_lite0", "minilm_sts", "ppocr_cls", "resnet8_cifar10", "silero_vad", "ultraface")
RAPID = "rapidocr_onnxruntime/models"
RNG = np.random.default_rng(11)


def image(*shape: int) -> np.ndarray:
    """A smooth picture in -1…1, so that a detector finds something to answer."""
    height, width = shape[-2:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    bands = [np.sin(x / (5 + i)) * np.cos(y / (7 + 2 * i)) for i in range(shape[1])]
    return np.broadcast_to(np.stack(bands), shape).astype(np.float32)


def signal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.1).astype(np.float32)


RATE = np.array(16000, np.int64)
PIP_CASES: dict[str, list[dict[str, np.ndarray]]] = {
    f"{RAPID}/ch_PP-OCRv4_det_infer.onnx": [{"x": image(1, 3, 160, 192)}, {"x": image(2, 3, 64, 96)}],
    f"{RAPID}/ch_PP-OCRv4_rec_infer.onnx": [{"x": image(1, 3, 48, 160)}, {"x": image(2, 3, 48, 96)}],
    f"{RAPID}/ch_ppocr_mobile_v2.0_cls_infer.onnx": [{"x": image(1, 3, 48, 192)}, {"x": image(3, 3, 48, 192)}],
    "silero_vad/data/silero_vad.onnx": [{"input": signal(1, 576), "state": signal(2, 1, 128), "sr": RATE}],
    "silero_vad/data/silero_vad_16k_op15.onnx": [{"input": signal(1, 576), "state": signal(2, 1, 128), "sr": RATE}],
    "silero_vad/data/silero_vad_16k_sequence.onnx": [
        {"input": signal(n, 576), "h": signal(1, 1, 128), "c": signal(1, 1, 128)} for n in (1, 4)
    ],
    "silero_vad/data/silero_vad_half.onnx": [{"input": signal(1, 576), "state": signal(2, 1, 128)}],
    "silero_vad/data/silero_vad_op18_ifless.onnx": [{"input": signal(1, 576), "state": signal(2, 1, 128), "sr": RATE}],
    "silero_vad/data/silero_vad_openvino_16k.onnx": [{"input": signal(1, 576), "state": signal(2, 1, 128)}],
    "magika/models/standard_v3_3/model.onnx": [
        {"bytes": RNG.integers(0, 257, (n, 2048)).astype(np.int32)} for n in (1, 2)
    ],
}  # fmt: skip


def zoo_model(case: str) -> onnx.ModelProto:
    path = ZOO / case / "model.onnx"
    if not path.exists():
        pytest.skip(f"no zoo at {ZOO}")
    return onnx.load(path)


def zoo_feeds(case: str, limit: int) -> list[dict[str, Any]]:
    spec = importlib.util.spec_from_file_location(f"zoo_{case}", ZOO / case / "eval.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.feeds("calib", limit))


def converted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """At operator set 21, as the front end hands it over."""
    return onnx.version_converter.convert_version(proto, 21)


def hold(proto: onnx.ModelProto, feeds: list[dict[str, Any]], names: tuple[str, ...] = passes.NAMES) -> ir.Model:
    """Runs the passes, each held to the original's answers and to the checker; signature and names are kept."""
    model = ir.from_proto(proto)
    keeps = outputs_check(proto.SerializeToString(), feeds, samples=2)

    def check(changed: ir.Model, name: str) -> None:
        keeps(changed, name)
        onnx.checker.check_model(ir.to_proto(changed), full_check=True)

    before = {n.name for g in model.graphs() for n in g if n.name and n.op_type == "Conv"}
    inputs, outputs = [v.name for v in model.graph.inputs], [v.name for v in model.graph.outputs]
    applied = passes.run(model, names, check=check)
    assert [v.name for v in model.graph.inputs] == inputs
    assert [v.name for v in model.graph.outputs] == outputs
    assert [a.name for a in applied] == list(names)
    assert applied[-1].nodes_after == sum(passes.counts(model).values())
    after = {n.name for g in model.graphs() for n in g if n.op_type == "Conv"}
    assert not before or all(
        any(a == b or a.endswith(f"_{b}") for b in before) for a in after
    )  # "If_" + its name, inlined
    return model


@pytest.mark.parametrize("case", ZOO_CASES)
def test_zoo_model_keeps_its_answers(case: str) -> None:
    proto = zoo_model(case)
    model = hold(converted(proto), zoo_feeds(case, 2))
    ops = passes.counts(model)
    assert ops.get("BatchNormalization", 0) == 0
    assert ops.get("Constant", 0) == 0
    assert ops.get("Shape", 0) <= {"minilm_sts": 2}.get(case, 0)


@pytest.mark.parametrize("case", PIP_CASES)
def test_pip_model_keeps_its_answers(case: str) -> None:
    if not (PIP / case).exists():
        pytest.skip("no models from pip: `make models`")
    model = hold(onnx.load(PIP / case), PIP_CASES[case])
    assert passes.counts(model).get("BatchNormalization", 0) == 0


def test_ppocr_has_35_batch_normalizations_and_18_hard_swishes_to_fuse() -> None:
    proto = converted(zoo_model("ppocr_cls"))
    model = ir.from_proto(proto)
    applied = {a.name: a for a in passes.run(model)}
    assert [(f.rule, f.count) for f in applied["batchnorm"].fired] == [("BatchNormalization into Conv", 35)]
    assert sum(f.count for f in applied["hardswish"].fired) == 18
    assert sum(passes.counts(model).values()) <= 125


def test_ppocr_keeps_its_53_convolutions_by_name() -> None:
    proto = converted(zoo_model("ppocr_cls"))
    names = {n.name for n in proto.graph.node if n.op_type == "Conv"}
    assert len(names) == 53
    model = ir.from_proto(proto)
    passes.run(model)
    assert {n.name for n in model.graph if n.op_type == "Conv"} == names


def test_the_same_model_gives_the_same_bytes() -> None:
    proto = converted(zoo_model("ultraface")).SerializeToString()

    def once() -> bytes:
        model = ir.from_proto(onnx.load_from_string(proto))
        passes.run(model)
        return ir.to_proto(model).SerializeToString(deterministic=True)

    assert once() == once()


def test_passes_find_nothing_more_the_second_time() -> None:
    model = ir.from_proto(converted(zoo_model("ppocr_cls")))
    passes.run(model)
    assert [a.name for a in passes.run(model) if a.changed] == []


def optimized(proto: onnx.ModelProto, folder: Path) -> dict[str, int]:
    """What ONNX Runtime's own optimizer makes of a model."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(folder / "optimized.onnx", load_external_data=False).graph.node
    return {op: sum(n.op_type == op for n in nodes) for op in {n.op_type for n in nodes}}


@pytest.mark.parametrize("case", ["minilm_sts", "ppocr_cls", "efficientnet_lite0", "ultraface"])
def test_the_engines_own_fusions_still_happen(case: str, tmp_path: Path) -> None:
    proto = converted(zoo_model(case))
    model = ir.from_proto(proto)
    passes.run(model)
    before, after = optimized(proto, tmp_path), optimized(ir.to_proto(model), tmp_path)
    assert sum(after.values()) <= sum(before.values())
    for op in ("FusedConv", "SkipLayerNormalization", "Attention", "FusedMatMul", "FusedGemm"):
        assert after.get(op, 0) >= before.get(op, 0)


def test_transformer_fusions_for_onnx_runtime() -> None:
    case = "minilm_sts"
    usual = ir.from_proto(converted(zoo_model(case)))
    passes.run(usual)  # held above
    model = hold(ir.to_proto(usual), zoo_feeds(case, 2), ("ort_transformer",))
    ops = passes.counts(model)
    assert (ops["com.microsoft::Attention"], ops["com.microsoft::BiasGelu"]) == (6, 6)
    assert ops["com.microsoft::SkipLayerNormalization"] == 12
