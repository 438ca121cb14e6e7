"""onnxruntime.quantization: its defaults, and what its documentation advises for x86-64 and for accuracy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import CONVOLUTIONAL, SYMMETRIC, TRANSFORMER, Case, Recipe


def _prepared(case: Case, scratch: str) -> str:
    """The model after `quant_pre_process`; symbolic shape inference is left out where it fails."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    out = f"{scratch}/prepared.onnx"
    try:
        quant_pre_process(case.model, out)
    except Exception:  # it fails on some graphs; its own message advises this
        quant_pre_process(case.model, out, skip_symbolic_shape=True)
    return out


def _reader(case: Case) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = case.feeds()

        def get_next(self) -> Any:
            return next(self.feeds, None)

    return Reader()


def defaults(case: Case, out: Path) -> None:
    """quantize_static as it comes: S8S8, per tensor, min-max."""
    from onnxruntime.quantization import quantize_static

    quantize_static(case.model, str(out), _reader(case))


def static(
    case: Case,
    out: Path,
    *,
    method: str = "MinMax",
    activation: str = "QUInt8",
    reduce_range: bool = False,
    extra: dict[str, Any] | None = None,
    only: list[str] | None = None,
) -> None:
    """After preprocessing, QDQ, per channel."""
    from onnxruntime import quantization as q

    with tempfile.TemporaryDirectory() as scratch:
        q.quantize_static(
            _prepared(case, scratch),
            str(out),
            _reader(case),
            quant_format=q.QuantFormat.QDQ,
            activation_type=q.QuantType[activation],
            weight_type=q.QuantType.QInt8,
            per_channel=True,
            reduce_range=reduce_range,
            calibrate_method=q.CalibrationMethod[method],
            op_types_to_quantize=only,
            extra_options=extra or {},
        )


def dynamic(case: Case, out: Path, **how: Any) -> None:
    from onnxruntime.quantization import quantize_dynamic

    with tempfile.TemporaryDirectory() as scratch:
        quantize_dynamic(_prepared(case, scratch) if how else case.model, str(out), **how)


def matmul_nbits(case: Case, out: Path, *, bits: int, accuracy_level: int) -> None:
    """Weight-only in blocks of 32, symmetric; accuracy level 4 lets it multiply in int8."""
    import onnx
    from onnxruntime.quantization import matmul_nbits_quantizer as m

    how = m.DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=True, accuracy_level=accuracy_level, bits=bits)
    quantizer = m.MatMulNBitsQuantizer(onnx.load(case.model), algo_config=how)
    quantizer.process()
    quantizer.model.save_model_to_file(str(out), False)


CONST_B = {"extra": {"MatMulConstBOnly": True}, "only": ["MatMul", "Gemm"]}
RECIPES = (
    Recipe("static, defaults", defaults),
    Recipe("static, U8S8 per channel", static, engines=("onnxruntime", "openvino")),
    Recipe("static, U8S8 per channel, entropy", static, {"method": "Entropy"}, cases=CONVOLUTIONAL),
    Recipe("static, U8S8 per channel, percentile", static, {"method": "Percentile"}, cases=CONVOLUTIONAL),
    Recipe("static, U8S8 per channel, reduce_range", static, {"reduce_range": True}, cases=CONVOLUTIONAL),
    Recipe("static, MatMul with constant B only", static, CONST_B, cases=TRANSFORMER),
    Recipe(
        "static, S8S8 symmetric per channel",
        static,
        {"activation": "QInt8", "extra": {"ActivationSymmetric": True}},
        cases=SYMMETRIC,
        engines=("exact", "onnxruntime"),
    ),
    Recipe("dynamic, defaults", dynamic),
    Recipe("dynamic, per channel", dynamic, {"per_channel": True}, ("silero_vad", *TRANSFORMER)),
    Recipe("dynamic, per channel, reduce_range", dynamic, {"per_channel": True, "reduce_range": True}),
    Recipe("MatMulNBits 8", matmul_nbits, {"bits": 8, "accuracy_level": 0}, cases=TRANSFORMER),
    Recipe("MatMulNBits 4", matmul_nbits, {"bits": 4, "accuracy_level": 0}, cases=TRANSFORMER),
    Recipe("MatMulNBits 4, accuracy level 4", matmul_nbits, {"bits": 4, "accuracy_level": 4}, cases=TRANSFORMER),
)
