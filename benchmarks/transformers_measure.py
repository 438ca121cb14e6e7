"""Accuracy and CPU time of MiniLM files, with numpy alone, so that it runs in OpenVINO's own environment too.

    python -m benchmarks.transformers_measure FOLDER

runs FOLDER/0.onnx (float32), 1.onnx … in OpenVINO and prints one line of JSON: per file its scores and its seconds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo
from benchmarks.quantization.engines import fix_threads, opened

ROUNDS, TURN = 25, 0.04


def accuracy(run: Any, reference: np.ndarray, feeds: list[dict[str, Any]]) -> dict[str, float]:
    got = np.concatenate([run(feed)[0].copy() for feed in feeds]).astype(np.float64)
    cosine = (got * reference).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(reference, axis=1)
    noise = np.square(got - reference).sum()
    likeness = {"sqnr_db": round(float(10 * np.log10(np.square(reference).sum() / noise)), 2)} if noise else {}
    return likeness | {
        "cosine_mean": round(float(cosine.mean()), 4),
        "cosine_p5": round(float(np.percentile(cosine, 5)), 4),
        "cosine_min": round(float(cosine.min()), 4),
    }


def seconds(runs: dict[str, Any], feeds: list[dict[str, Any]]) -> dict[str, list[float]]:
    """CPU seconds a call, by file, one value a round."""
    for run in runs.values():
        for feed in feeds[:2]:
            run(feed)
    found: dict[str, list[float]] = {name: [] for name in runs}
    counts = {}
    for name, run in runs.items():
        start = time.process_time()
        run(feeds[0])
        counts[name] = max(1, int(TURN / max(time.process_time() - start, 1e-6)))
    for turn in range(ROUNDS):
        for name in sorted(runs, reverse=bool(turn % 2)):
            start = time.process_time()
            for k in range(counts[name]):
                runs[name](feeds[k % len(feeds)])
            found[name].append((time.process_time() - start) / counts[name])
    return found


def main() -> None:
    fix_threads()
    feeds = list(zoo.module("minilm_sts").feeds("eval"))
    paths = sorted(Path(sys.argv[1]).glob("*.onnx"), key=lambda p: int(p.stem))
    runs = {p.stem: opened("openvino", str(p), feeds[0]) for p in paths}
    reference = np.concatenate([runs["0"](feed)[0].copy() for feed in feeds]).astype(np.float64)
    times = seconds(runs, feeds[:4])
    print(json.dumps([[accuracy(runs[p.stem], reference, feeds), times[p.stem]] for p in paths]))


if __name__ == "__main__":
    main()
