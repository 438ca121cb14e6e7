"""Runs inside the emulated CPU, as a program: `worker.py FOLDER` answers FOLDER's feeds with FOLDER/model.onnx."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

_NAMES = {
    "AVX": "avx",
    "AVX2": "avx2",
    "FMA3": "fma",
    "F16C": "f16c",
    "AVX512F": "avx512f",
    "AVX512VNNI": "avx512_vnni",
}


def features() -> list[str]:
    """What numpy finds by asking the CPU itself (cpuid), in Linux's names: /proc/cpuinfo is the real machine's."""
    try:
        core: Any = import_module("numpy._core._multiarray_umath")
    except ImportError:  # numpy 1
        core = import_module("numpy.core._multiarray_umath")
    found: dict[str, bool] = core.__cpu_features__
    return sorted(linux for name, linux in _NAMES.items() if found.get(name))


def main(folder: Path) -> None:
    """Write one .npz of answers for each .npz of inputs, and what the CPU is."""
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    for path in sorted(folder.glob("in-*.npz")):
        with np.load(path, allow_pickle=False) as feed:
            answers = session.run(None, dict(feed))
        arrays: dict[str, Any] = {str(i): a for i, a in enumerate(answers)}
        np.savez(folder / f"out-{path.stem[3:]}.npz", **arrays)
    (folder / "cpu.json").write_text(json.dumps({"isa": features(), "onnxruntime": ort.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
