"""One quantization by one tool in this process: `python recipes.py NAME CASE_FOLDER OUT`; prints its cost as JSON.

Runs in each tool's own environment, so it imports nothing of edgec but in edgec's own recipes.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def feeds(folder: Path) -> Any:
    """The case's calibration inputs, the same for every tool."""
    spec = importlib.util.spec_from_file_location("zoo_case", folder / "eval.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.feeds("calib")


def edgec(folder: Path, out: str, effort: Any) -> None:
    from edgec import data, frontends, passes, quantize

    model = frontends.load(folder / "model.onnx").model
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    passes.run(model)
    made = quantize.quantize_with_data(model, calibration, effort=effort)
    Path(out).write_bytes(frontends.save_bytes(made.model))


def ort_static(folder: Path, out: str, per_channel: bool) -> None:
    """Defaults, or what its documentation advises for x86-64: preprocessing, U8S8, per channel, min-max."""
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = feeds(folder)

        def get_next(self) -> Any:
            return next(self.feeds, None)

    if not per_channel:
        q.quantize_static(str(folder / "model.onnx"), out, Reader())
        return
    with tempfile.TemporaryDirectory() as scratch:
        prepared = f"{scratch}/prepared.onnx"
        quant_pre_process(str(folder / "model.onnx"), prepared)
        q.quantize_static(
            prepared,
            out,
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            per_channel=True,
            calibrate_method=q.CalibrationMethod.MinMax,
        )


def ort_dynamic(folder: Path, out: str) -> None:
    from onnxruntime import quantization as q

    q.quantize_dynamic(str(folder / "model.onnx"), out)


def nncf_onnx(folder: Path, out: str) -> None:
    import nncf
    import onnx

    samples = list(feeds(folder))
    onnx.save(
        nncf.quantize(onnx.load(str(folder / "model.onnx")), nncf.Dataset(samples), subset_size=len(samples)), out
    )


RECIPES: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "edgec plain": ("edgec", lambda f, o: edgec(f, o, "plain")),
    "edgec default": ("edgec", lambda f, o: edgec(f, o, "default")),
    "onnxruntime static": ("onnxruntime", lambda f, o: ort_static(f, o, False)),
    "onnxruntime static, per channel": ("onnxruntime", lambda f, o: ort_static(f, o, True)),
    "onnxruntime dynamic": ("onnxruntime", ort_dynamic),
    "NNCF (ONNX)": ("nncf", nncf_onnx),
}

if __name__ == "__main__":
    RECIPES[sys.argv[1]][1](Path(sys.argv[2]), sys.argv[3])
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": round(used.ru_utime + used.ru_stime, 2), "peak_mib": round(used.ru_maxrss / 1024)}))
