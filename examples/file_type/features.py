"""A file's first and last bytes as Magika's model wants them, and data to calibrate and score it with.

Magika (Fratantonio et al., ICSE 2025) looks at 1,024 bytes from each end of a file, white space stripped, as integers
0..255; 256 pads. The data is what every machine with Python has: Python's own installation and this checkout.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "build/models/magika/models/standard_v3_3/model.onnx"
ENDS, BLOCK, PADDING = 1024, 4096, 256
# What Magika calls the content of files with these endings (its label names).
LABELS = {
    ".py": {"python"}, ".c": {"c"}, ".h": {"c", "cpp"}, ".md": {"markdown"}, ".toml": {"toml"}, ".json": {"json"},
    ".so": {"elf"}, ".png": {"png"}, ".gz": {"gzip"}, ".zip": {"zip"}, ".html": {"html"}, ".css": {"css"},
    ".js": {"javascript"}, ".xml": {"xml"}, ".sh": {"shell"}, ".csv": {"csv"},
    ".svg": {"svg"}, ".rst": {"rst"}, ".pem": {"pem"}, ".yaml": {"yaml"}, ".npz": {"npz", "zip"}, ".jpg": {"jpeg"},
    ".pdf": {"pdf"}, ".wav": {"wav"}, ".onnx": {"onnx"}, ".bat": {"batch"}, ".ps1": {"powershell"},
}  # fmt: skip


def features(content: bytes) -> NDArray[np.int32]:
    """The model's input for a file's bytes: int32 [1, 2048], values 0..256."""
    first, last = content[:BLOCK], content[-BLOCK:]
    first = (first.strip() if len(content) <= BLOCK else first.lstrip())[:ENDS]
    last = (last.strip() if len(content) <= BLOCK else last.rstrip())[-ENDS:]
    out = np.full((1, 2 * ENDS), PADDING, np.int32)
    out[0, : len(first)] = np.frombuffer(first, np.uint8)
    out[0, 2 * ENDS - len(last) :] = np.frombuffer(last, np.uint8)
    return out


def labels() -> list[str]:
    """The names of the model's 214 answers."""
    return list(json.loads(MODEL.with_name("config.min.json").read_text())["target_labels_space"])


def files(limit_per_kind: int = 12) -> Iterator[Path]:
    """Real files of known endings from Python's installation, the same order on every call."""
    taken: dict[str, int] = defaultdict(int)
    for folder in (Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib")), Path(sys.prefix)):
        for path in sorted(folder.rglob("*")):
            kind = path.suffix.lower()
            if kind in LABELS and taken[kind] < limit_per_kind and path.is_file() and path.stat().st_size >= 256:
                taken[kind] += 1
                yield path


def calibration() -> Iterable[dict[str, NDArray[np.int32]]]:
    """Every second file, for `--calib`."""
    for n, path in enumerate(files()):
        if n % 2 == 0:
            yield {"bytes": features(path.read_bytes())}


def evaluate(run: Callable[[Mapping[str, NDArray[Any]]], list[NDArray[Any]]]) -> dict[str, Any]:
    """Share of the other files that get a label their ending allows, for `--eval`."""
    names, hits = labels(), []
    for n, path in enumerate(files()):
        if n % 2:
            scores = run({"bytes": features(path.read_bytes())})[0]
            hits.append(float(names[int(np.argmax(scores))] in LABELS[path.suffix.lower()]))
    return {"metric": "right file type", "value": sum(hits) / len(hits), "n": len(hits), "per_sample": hits}


if __name__ == "__main__":  # python features.py FILE INPUT.npz
    np.savez(sys.argv[2], bytes=features(Path(sys.argv[1]).read_bytes()))
