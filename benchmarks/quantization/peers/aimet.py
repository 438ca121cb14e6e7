"""AIMET for ONNX (Qualcomm): its defaults (per channel), and its optimizers of the weights.

AdaRound takes the 10,000 iterations a layer that its documentation recommends, on the smallest model alone: two
minutes of CPU time there, hours on EfficientNet-Lite0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import CONVOLUTIONAL, Case, Recipe

PER_CHANNEL = {"config": "default_config_per_channel.json", "fold": True}


def quantized(
    case: Case, out: Path, *, config: str = "", fold: bool = False, equalize: bool = False, optimizer: str = ""
) -> None:
    import aimet_onnx
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
    from aimet_onnx.cross_layer_equalization import equalize_model

    model, feeds = onnx.load(case.model), list(case.feeds())
    if fold:
        fold_all_batch_norms_to_weight(model)
    if equalize:
        equalize_model(model)
    how: dict[str, Any] = {}
    if config:
        where = Path(aimet_onnx.__file__).parent / "common" / "quantsim_config"
        how["config_file"] = str(where / config) if config.endswith(".json") else config
    sim = aimet_onnx.QuantizationSimModel(
        model, param_type=aimet_onnx.int8, activation_type=aimet_onnx.int8, dummy_input=feeds[0], **how
    )
    if optimizer == "seq_mse":
        aimet_onnx.apply_seq_mse(sim, feeds)
    if optimizer == "adaround":
        aimet_onnx.apply_adaround(sim, feeds, num_iterations=10000)
    sim.compute_encodings(feeds)
    onnx.save(sim.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True), str(out))


RECIPES = (
    Recipe("defaults", quantized),
    Recipe("batch norms folded", quantized, PER_CHANNEL, ("ultraface", "ppocr_cls")),
    Recipe("CLE", quantized, PER_CHANNEL | {"equalize": True}, CONVOLUTIONAL),
    Recipe("sequential MSE", quantized, PER_CHANNEL | {"optimizer": "seq_mse"}, CONVOLUTIONAL),
    Recipe("AdaRound", quantized, PER_CHANNEL | {"optimizer": "adaround"}, ("dscnn_kws",)),
    Recipe("htp_v81", quantized, {"config": "htp_v81", "fold": True}),
)
