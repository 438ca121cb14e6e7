"""NVIDIA ModelOpt for ONNX: files by TensorRT's rules. float32, not float16, beside integers: a CPU runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import CONVOLUTIONAL, SYMMETRIC, TRANSFORMER, Case, Recipe


def _reader(case: Case) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Any:
            return next(self.feeds, None)

        def rewind(self) -> None:
            self.feeds = case.feeds()

        def get_first(self) -> Any:
            return next(case.feeds())

    return Reader()


def quantized(case: Case, out: Path, **how: Any) -> None:
    from modelopt.onnx.quantization import quantize

    quantize(
        case.model,
        calibration_data_reader=_reader(case),
        calibration_eps=["cpu"],
        output_path=str(out),
        high_precision_dtype="fp32",
        **how,
    )


REST = tuple(case for case in CONVOLUTIONAL + TRANSFORMER if case not in SYMMETRIC)
INT8: dict[str, dict[str, Any]] = {
    "int8, entropy (default)": {"quantize_mode": "int8", "calibration_method": "entropy"},
    "int8, max, stored as int8": {"quantize_mode": "int8", "calibration_method": "max", "dq_only": True},
}
RECIPES = (
    *(Recipe(n, quantized, how, SYMMETRIC, ("exact", "onnxruntime", "openvino")) for n, how in INT8.items()),
    *(Recipe(n, quantized, how, REST) for n, how in INT8.items()),
    Recipe("int4, AWQ", quantized, {"quantize_mode": "int4", "calibration_method": "awq_clip"}, TRANSFORMER),
)
