"""Peak memory and CPU time of a quantization against the number of calibration samples.

    python -m benchmarks.quantize_memory [CASE …] [--samples 8 64 512] [--zoo DIR]

Each run is a process of its own, on one thread: the float model is loaded and fused first, what it holds then is the
base. Samples are the case's own, repeated (a feed made anew for each pass, so that they are not kept); text recognition
gets seeded noise, since memory and time don't depend on what the samples show. Per case `--effort default` with each
count, then every range method with the least count. Bars: at most 1.5 GB; from the least to the largest count at most
what the corrections may cache more; time per sample no more than at the middle count. Written to
benchmarks/results/quantize_memory.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RECOGNISER = ROOT / "build" / "models" / "rapidocr_onnxruntime" / "models" / "ch_PP-OCRv4_rec_infer.onnx"
CASES = ("efficientnet_lite0", "ppocr_rec")
OTHERS = ("resnet8_cifar10", "dscnn_kws", "ppocr_cls", "ultraface", "silero_vad", "minilm_sts")


def samples(case: str, folder: Path, count: int) -> Iterator[dict[str, np.ndarray]]:
    if case == "ppocr_rec":
        rng = np.random.default_rng(0)
        for _ in range(count):
            yield {"x": rng.uniform(-1, 1, (1, 3, 48, 320)).astype(np.float32)}
        return
    spec = importlib.util.spec_from_file_location("zoo_eval", folder / "eval.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def again() -> Iterator[dict[str, np.ndarray]]:
        while True:
            yield from module.feeds("calib")

    yield from itertools.islice(again(), count)


def usage() -> tuple[float, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def run_case(case: str, folder: Path, count: int, method: str, effort: str) -> dict[str, Any]:
    from edgec import data, frontends, passes, quantize

    source = RECOGNISER if case == "ppocr_rec" else folder / "model.onnx"
    model = frontends.load(source).model
    passes.run(model)
    feeds = data.Dataset(lambda: samples(case, folder, count), model.graph.inputs, describe=case, count=count)
    before, base = usage()
    quantize.quantize_with_data(model, feeds, method=method, effort=effort)  # type: ignore[arg-type]
    after, peak = usage()
    return {
        "case": case, "samples": count, "method": method, "effort": effort, "cpu_s": round(after - before, 1),
        "base_mib": round(base), "peak_mib": round(peak),
    }  # fmt: skip


def main() -> None:
    from edgec.request import METHODS

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", default=[*CASES, *OTHERS])
    parser.add_argument("--samples", nargs="+", type=int, default=[8, 64, 512])
    parser.add_argument("--zoo", default=os.environ.get("EDGEC_ZOO", str(ROOT.parent / "shared" / "zoo")))
    parser.add_argument("--child", nargs=3, metavar=("COUNT", "METHOD", "EFFORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    zoo = Path(arguments.zoo)
    if arguments.child:
        count, method, effort = arguments.child
        print(json.dumps(run_case(arguments.cases[0], zoo / arguments.cases[0], int(count), method, effort)))
        return
    target = ROOT / "benchmarks" / "results" / "quantize_memory.json"
    rows = json.loads(target.read_text()) if target.exists() else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for case in arguments.cases:
        if not (RECOGNISER if case == "ppocr_rec" else zoo / case / "model.onnx").is_file():
            print(f"{case}: its model is not there (make models; EDGEC_ZOO)", file=sys.stderr)
            continue
        counts = arguments.samples if case in CASES else arguments.samples[:1]
        runs = [(n, "minmax", "default") for n in counts] + [(arguments.samples[0], m, "plain") for m in METHODS]
        for count, method, effort in runs:
            command = [sys.executable, "-m", "benchmarks.quantize_memory", case, "--zoo", arguments.zoo, "--child"]
            done = subprocess.run(
                [*command, str(count), method, effort], cwd=ROOT, env=environment, check=True,
                stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            row = json.loads(done.stdout.strip().splitlines()[-1])
            keys = ("case", "samples", "method", "effort")
            rows = [r for r in rows if any(r[k] != row[k] for k in keys)] + [row]
            target.write_text(json.dumps(rows, indent=1) + "\n")
            print(", ".join(f"{k} {v}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()
