"""Results as they are committed: date, versions, machine and figures in benchmarks/results/<name>.json."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgec.measure.interleaved import percentile
from edgec.measure.machine import this_machine

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("edgec", "edgec-runtime", "onnxruntime", "onnx", "numpy")


def save(name: str, figures: Any, **how: Any) -> Path:
    """Write a result with what is needed to read it later."""
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "date": datetime.date.today().isoformat(),
                "machine": this_machine().as_dict(),
                "python": platform.python_version(),
                "versions": {p: version(p) for p in PACKAGES},
                **how,
                "figures": figures,
            },
            indent=1,
        )
        + "\n"
    )
    return path


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Round by round: median of ours/theirs with its 10th and 90th percentile."""
    values = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "median": round(statistics.median(values), 4),
        "p10": round(percentile(values, 0.1), 4),
        "p90": round(percentile(values, 0.9), 4),
        "rounds": len(values),
    }


def compiled_python() -> dict[str, str]:
    """The environment of a started process, with Python's bytecode cache on: installed packages have it, and without
    it importing anything costs several times as much (some containers switch it off)."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
