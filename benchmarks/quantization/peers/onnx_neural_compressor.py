"""onnx-neural-compressor (Intel's Neural Compressor for ONNX)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import TRANSFORMER, Case, Recipe


def _reader(case: Case) -> Any:
    from onnx_neural_compressor import data_reader

    class Reader(data_reader.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Any:
            return next(self.feeds, None)

        def rewind(self) -> None:
            self.feeds = case.feeds()

    return Reader()


def _prepared(case: Case, scratch: str) -> str:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out = f"{scratch}/prepared.onnx"
    try:
        quant_pre_process(case.model, out)
    except Exception:  # it fails on some graphs; its own message advises this
        quant_pre_process(case.model, out, skip_symbolic_shape=True)
    return out


def _one_file(made: Path, out: Path) -> None:
    """It writes weights beside the graph; one file is compared."""
    import onnx

    onnx.save(onnx.load(str(made)), str(out))


def static(case: Case, out: Path, *, per_channel: bool, smooth: bool = False) -> None:
    from onnx_neural_compressor.quantization import QuantFormat, config, quantize

    samples = sum(1 for _ in case.feeds())
    with tempfile.TemporaryDirectory() as scratch:
        how = config.StaticQuantConfig(
            _reader(case),
            quant_format=QuantFormat.QDQ,
            per_channel=per_channel,
            calibration_sampling_size=samples,
            extra_options={"SmoothQuant": True, "SmoothQuantCalibIter": samples} if smooth else {},
        )
        made = Path(scratch) / "made.onnx"
        quantize(_prepared(case, scratch), str(made), how)
        _one_file(made, out)


def layers_only(case: Case, out: Path) -> None:
    """Without the operators around the layers, on some of which it fails."""
    from onnx_neural_compressor.quantization import QuantFormat, config, quantize

    with tempfile.TemporaryDirectory() as scratch:
        how = config.StaticQuantConfig(
            _reader(case),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            calibration_sampling_size=sum(1 for _ in case.feeds()),
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        )
        made = Path(scratch) / "made.onnx"
        quantize(_prepared(case, scratch), str(made), how)
        _one_file(made, out)


def dynamic(case: Case, out: Path, *, per_channel: bool) -> None:
    from onnx_neural_compressor.quantization import config, quantize

    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "made.onnx"
        quantize(_prepared(case, scratch), str(made), config.DynamicQuantConfig(per_channel=per_channel))
        _one_file(made, out)


def weights(case: Case, out: Path, *, method: str) -> None:
    """Four bits in groups of 32, as its configurations come."""
    import onnx
    from onnx_neural_compressor.quantization import config
    from onnx_neural_compressor.quantization.algorithm_entry import (
        awq_quantize_entry,
        gptq_quantize_entry,
        rtn_quantize_entry,
    )

    with tempfile.TemporaryDirectory() as scratch:
        prepared = _prepared(case, scratch)
        if method == "rtn":
            made = rtn_quantize_entry(prepared, config.RTNConfig())
        elif method == "gptq":
            made = gptq_quantize_entry(prepared, config.GPTQConfig(), _reader(case))
        else:
            made = awq_quantize_entry(prepared, config.AWQConfig(), _reader(case))
        onnx.save(made, str(out))


RECIPES = (
    Recipe("static", static, {"per_channel": False}),
    Recipe("static, per channel", static, {"per_channel": True}),
    Recipe("static, per channel, Conv, Gemm and MatMul alone", layers_only, {}, ("ppocr_cls", "ultraface")),
    Recipe("static, per channel, SmoothQuant", static, {"per_channel": True, "smooth": True}, TRANSFORMER),
    Recipe("dynamic, per channel", dynamic, {"per_channel": True}, TRANSFORMER),
    Recipe("weights 4 bits, RTN", weights, {"method": "rtn"}, TRANSFORMER),
    Recipe("weights 4 bits, GPTQ", weights, {"method": "gptq"}, TRANSFORMER),
    Recipe("weights 4 bits, AWQ", weights, {"method": "awq"}, TRANSFORMER),
)
