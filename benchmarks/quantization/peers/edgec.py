"""edgec, as this checkout has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import SYMMETRIC, Case, Recipe

BOTH = ("onnxruntime", "openvino")


def _loaded(case: Case) -> tuple[Any, Any]:
    """The model after the passes and its calibration data, as `edgec quantize` has them."""
    from edgec import data, frontends, passes

    model = frontends.load(case.model).model
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    calibration = data.load_calibration(f"{case.folder}/eval.py:feeds", inputs)
    passes.run(model)
    return model, calibration


def _write(out: Path, model: Any) -> None:
    from edgec import frontends

    out.write_bytes(frontends.save_bytes(model))


def integers(case: Case, out: Path, *, weight_bits: int = 8, **how: Any) -> None:
    """`edgec quantize`, options as given."""
    from dataclasses import replace

    from edgec import quantize
    from edgec.quantize.placement import rules

    model, calibration = _loaded(case)
    scheme = replace(rules(how.get("placement", "onnxruntime")).scheme, weight_bits=weight_bits)
    _write(out, quantize.quantize_with_data(model, calibration, scheme=scheme, **how).model)


RECIPES = (
    Recipe("plain", integers, {"effort": "plain", "arch": "x86_64"}),
    Recipe("default", integers, {"arch": "x86_64"}, engines=BOTH),
    Recipe("default, everything integer", integers, {"arch": ""}, engines=BOTH),
    Recipe("default, 7-bit weights", integers, {"arch": "x86_64", "weight_bits": 7}),
    Recipe(
        "TensorRT's rules",
        integers,
        {"placement": "tensorrt", "arch": ""},
        cases=SYMMETRIC,
        engines=("exact", "onnxruntime", "openvino"),
    ),
)
