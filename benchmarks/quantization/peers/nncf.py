"""NNCF on ONNX and on OpenVINO models: its defaults, and its options for accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import TRANSFORMER, Case, Recipe


def _options(case: Case, accurate: bool) -> dict[str, Any]:
    """MIXED (asymmetric activations) and its slower bias correction are what its documentation offers for accuracy."""
    import nncf

    how: dict[str, Any] = {}
    if case.name in TRANSFORMER:
        how["model_type"] = nncf.ModelType.TRANSFORMER
    if accurate:
        how |= {"preset": nncf.QuantizationPreset.MIXED, "fast_bias_correction": False}
    return how


def onnx_model(case: Case, out: Path, *, accurate: bool) -> None:
    import nncf
    import onnx

    feeds = list(case.feeds())
    made = nncf.quantize(onnx.load(case.model), nncf.Dataset(feeds), subset_size=len(feeds), **_options(case, accurate))
    onnx.save(made, str(out))


def onnx_mixed(case: Case, out: Path) -> None:
    """MIXED with the quick bias correction: the accurate one fails on some graphs."""
    import nncf
    import onnx

    feeds = list(case.feeds())
    how = _options(case, False) | {"preset": nncf.QuantizationPreset.MIXED}
    onnx.save(nncf.quantize(onnx.load(case.model), nncf.Dataset(feeds), subset_size=len(feeds), **how), str(out))


def openvino_model(case: Case, out: Path, *, accurate: bool) -> None:
    import nncf
    import openvino as ov

    feeds = list(case.feeds())
    model = ov.Core().read_model(case.model)
    made = nncf.quantize(model, nncf.Dataset(feeds), subset_size=len(feeds), **_options(case, accurate))
    ov.save_model(made, str(out), compress_to_fp16=False)


def weights(case: Case, out: Path, *, mode: str, **how: Any) -> None:
    """Weight-only."""
    import nncf
    import onnx

    onnx.save(nncf.compress_weights(onnx.load(case.model), mode=nncf.CompressWeightsMode[mode], **how), str(out))


RECIPES = (
    Recipe("ONNX, defaults", onnx_model, {"accurate": False}, engines=("onnxruntime", "openvino")),
    Recipe("ONNX, MIXED", onnx_mixed, {}, ("resnet8_cifar10", "efficientnet_lite0", *TRANSFORMER)),
    Recipe("ONNX, MIXED, accurate bias correction", onnx_model, {"accurate": True}),
    Recipe("OpenVINO, defaults", openvino_model, {"accurate": False}, engines=("openvino",), suffix=".xml"),
    Recipe(
        "OpenVINO, MIXED, accurate bias correction",
        openvino_model,
        {"accurate": True},
        engines=("openvino",),
        suffix=".xml",
    ),
    Recipe("weights INT8_ASYM", weights, {"mode": "INT8_ASYM"}, TRANSFORMER, ("onnxruntime", "openvino")),
    Recipe("weights INT4_SYM, groups of 64", weights, {"mode": "INT4_SYM", "group_size": 64}, TRANSFORMER),
)
