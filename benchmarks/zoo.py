"""The zoo's cases for the benchmarks: where they are, their first input, a bundle of each."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

CASES = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls", "silero_vad", "ultraface", "efficientnet_lite0", "minilm_sts")
ZOO = Path(os.environ.get("EDGEC_ZOO", Path(__file__).parents[2] / "shared" / "zoo"))


def folder(case: str) -> Path:
    """A case's folder; ends the program with a reason where the zoo is absent."""
    if not (ZOO / case / "model.onnx").is_file():
        sys.exit(f"no zoo at {ZOO}: these figures are taken on its models (set EDGEC_ZOO)")
    return ZOO / case


def module(case: str) -> Any:
    """The case's eval.py."""
    spec = importlib.util.spec_from_file_location(f"zoo_{case}", folder(case) / "eval.py")
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def first_feed(case: str) -> dict[str, Any]:
    """The first evaluation input."""
    return dict(next(iter(module(case).feeds("eval"))))


def compiled(case: str, precision: str, where: Path, boards: str = "host") -> Path:
    """A bundle of the case, by the same function that `edgec compile` calls."""
    from edgec.compiler import compile

    path = where / f"{case}-{precision}.edge"
    data = f"{folder(case)}/eval.py:feeds" if precision != "float32" else None
    compile(
        folder(case) / "model.onnx", boards, output=path, calib=data, precision=precision, effort="plain", name=case
    )
    return path
