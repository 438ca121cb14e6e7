"""Cost of `edgec quantize --effort plain` against onnxruntime.quantization, on EfficientNet-Lite0.

    python benchmarks/quantize_plain.py [--rounds 5] [--zoo DIR]

Each run is a fresh process that imports what it needs, reads the model, decodes the 100 calibration images, takes
min-max ranges and writes an int8 file (u8 activations, s8 per-channel weights). The two alternate, in changing order.
Printed and written to benchmarks/results/quantize_plain.json: CPU time (user + system, all threads), peak memory and
wall time of each, the ratio of the medians with the spread of the paired ratios, and what both files answer on the
zoo's 400 evaluation images. Bar: both ratios ≤ 1.0, accuracy no worse.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASE = "efficientnet_lite0"


def ours(folder: Path, out: str) -> None:
    from edgec import data, frontends, passes, quantize

    model = frontends.load(folder / "model.onnx").model
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    passes.run(model)
    made = quantize.quantize_with_data(model, calibration, effort="plain")
    Path(out).write_bytes(frontends.save_bytes(made.model))


def theirs(folder: Path, out: str) -> None:
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.feeds = load_case(folder).feeds()

        def get_next(self):
            return next(self.feeds, None)

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


def load_case(folder: Path):
    spec = importlib.util.spec_from_file_location("zoo_eval", folder / "eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def child(which: str, folder: Path, out: str) -> None:
    start = time.perf_counter()
    {"edgec": ours, "onnxruntime": theirs}[which](folder, out)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_mib": usage.ru_maxrss / 1024,
                "wall_s": time.perf_counter() - start,
            }
        )
    )


def measure(which: str, folder: Path, out: str) -> dict:
    command = [sys.executable, __file__, "--child", which, "--zoo", str(folder.parent), "--out", out]
    # `quant_pre_process` logs warnings; nothing else is printed on standard output but the last line.
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def accuracy(folder: Path, files: dict[str, str]) -> dict:
    import onnxruntime as ort

    from edgec.data import agreement, sqnr_db

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    reference = ort.InferenceSession(str(folder / "model.onnx"), options)
    case, result, hits, expected = load_case(folder), {}, {}, []
    for name, path in {"float32": None, **files}.items():
        session = reference if path is None else ort.InferenceSession(path, options)
        outputs = []

        def run(feed, session=session, outputs=outputs):
            outputs.append(session.run(None, feed))
            return outputs[-1]

        score = case.evaluate(run)
        result[name] = {"top1": score["value"], "n": score["n"]}
        hits[name] = score["per_sample"]
        if path is None:
            expected = outputs
        else:
            result[name] |= {
                "sqnr_db": round(sqnr_db([o[0] for o in expected], [o[0] for o in outputs]), 2),
                "agreement": round(agreement(expected, outputs).value, 4),
                "bytes": os.path.getsize(path),
            }
    result["top1_paired"] = paired(hits["edgec"], hits["onnxruntime"])
    return result


def paired(ours: list[float], theirs: list[float]) -> dict:
    """Images that only one of the two gets right, and the exact two-sided sign test (McNemar) of that difference."""
    only_ours = sum(a > b for a, b in zip(ours, theirs, strict=True))
    only_theirs = sum(b > a for a, b in zip(ours, theirs, strict=True))
    n, k = only_ours + only_theirs, min(only_ours, only_theirs)
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    return {"only_edgec_right": only_ours, "only_onnxruntime_right": only_theirs, "p": round(p, 3)}


def summary(runs: dict[str, list[dict]]) -> dict:
    result = {}
    for what in ("cpu_s", "peak_mib", "wall_s"):
        a, b = ([r[what] for r in runs[k]] for k in ("edgec", "onnxruntime"))
        paired = sorted(x / y for x, y in zip(a, b, strict=True))
        result[what] = {
            "edgec": round(statistics.median(a), 3),
            "onnxruntime": round(statistics.median(b), 3),
            "ratio": round(statistics.median(a) / statistics.median(b), 3),
            "spread": [round(paired[0], 3), round(paired[-1], 3)],
        }
    return result


def cpu_flags() -> dict:
    flags: list[str] = []
    name = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
            if line.startswith(("flags", "Features")):
                flags = line.split(":", 1)[1].split()
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8", "asimddp", "i8mm")
    return {
        "name": name,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "flags": [f for f in wanted if f in flags],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--zoo", default=os.environ.get("EDGEC_ZOO", str(ROOT.parent / "shared" / "zoo")))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = Path(arguments.zoo) / CASE
    if arguments.child:
        child(arguments.child, folder, arguments.out)
        return
    if not folder.is_dir():
        sys.exit(f"the zoo is not at {arguments.zoo}: set EDGEC_ZOO or --zoo")
    runs: dict[str, list[dict]] = {"edgec": [], "onnxruntime": []}
    with tempfile.TemporaryDirectory() as scratch:
        files = {k: f"{scratch}/{k}.onnx" for k in runs}
        for i in range(arguments.rounds):
            for which in sorted(runs, reverse=bool(i % 2)):
                runs[which].append(measure(which, folder, files[which]))
                print(f"round {i + 1}: {which:12s} {runs[which][-1]}", flush=True)
        cost, scores = summary(runs), accuracy(folder, files)
    result = {
        "what": "int8 quantization of EfficientNet-Lite0, 100 images, min-max, per channel; fresh processes",
        "date": datetime.date.today().isoformat(),
        "rounds": arguments.rounds,
        "versions": {p: metadata.version(p) for p in ("edgec", "onnxruntime", "onnx", "onnx-ir", "numpy")}
        | {"python": platform.python_version()},
        "cpu": cpu_flags(),
        "load_average": os.getloadavg()[0],
        "cost": cost,
        "accuracy": scores,
        "runs": runs,
    }
    target = ROOT / "benchmarks" / "results" / "quantize_plain.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    for what, row in cost.items():
        low, high = row["spread"]
        medians = f"edgec {row['edgec']:8.2f}  onnxruntime {row['onnxruntime']:8.2f}"
        print(f"{what:9s} {medians}  ratio {row['ratio']:.2f} ({low:.2f}–{high:.2f})")
    for name, row in scores.items():
        print(f"{name:12s} {row}")


if __name__ == "__main__":
    main()
