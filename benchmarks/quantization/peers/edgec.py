"""edgec, as this checkout has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.quantization.recipe import CONVOLUTIONAL, SYMMETRIC, TRANSFORMER, Case, Recipe

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


def dynamic(case: Case, out: Path, *, calibrated: bool) -> None:
    """Activations quantized at run time; calibration data smooth outliers and fit weights."""
    from edgec.quantize.dynamic import quantize_dynamic

    model, calibration = _loaded(case)
    _write(out, quantize_dynamic(model, data=calibration if calibrated else None).model)


def weights(case: Case, out: Path, **how: Any) -> None:
    from edgec.quantize.weights import quantize_weights

    model, calibration = _loaded(case)
    _write(out, quantize_weights(model, data=calibration, **how).model)


def half(case: Case, out: Path) -> None:
    """Weights stored in float16, arithmetic in float32."""
    from edgec.quantize.half import to_half

    model, calibration = _loaded(case)
    _write(out, to_half(model, data=calibration).model)


def searched(case: Case, out: Path, *, max_drop: str) -> None:
    """`--effort search`: the fastest mixture within a budget of likeness on the calibration inputs, timed here."""
    import tempfile

    from edgec.data import Budget
    from edgec.executors import workers
    from edgec.quantize.search import Store, search

    model, calibration = _loaded(case)
    with tempfile.TemporaryDirectory() as scratch, workers("local") as crew:
        store = Store(Path(scratch) / "trials.sqlite")
        try:
            found = search(
                model, calibration, budget=Budget.parse(max_drop), workers=crew, store=store, arch="x86_64", timed=True
            )
        finally:
            store.close()
    if found.quantized is None:
        raise RuntimeError(found.why_not)
    _write(out, found.quantized.model)


LARGE = ("efficientnet_lite0", *TRANSFORMER)
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
    Recipe("search, at most 0.5 % lost", searched, {"max_drop": "0.5%"}, CONVOLUTIONAL),
    Recipe("dynamic", dynamic, {"calibrated": True}, ("silero_vad", *TRANSFORMER)),
    Recipe("dynamic, without data", dynamic, {"calibrated": False}, ("silero_vad", *TRANSFORMER)),
    Recipe("weight-only int8", weights, {"bits": 8}, LARGE, BOTH),
    Recipe("weight-only int4", weights, {"bits": 4}, TRANSFORMER),
    Recipe("weight-only int4, at most 20 MB", weights, {"bits": 4, "max_bytes": 20_000_000}, TRANSFORMER),
    Recipe("float16 weights", half, {}, LARGE, BOTH),
)
