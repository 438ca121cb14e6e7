"""What each correction of `--effort default` gains, on the zoo's evaluation samples.

    python benchmarks/quantize_corrections.py [CASE …] [--zoo DIR]

Per case a fresh process: min-max ranges alone; the other ranges; bias correction alone; least squares alone (from
min-max ranges); and what `--effort default` makes of it, which has only held-out calibration samples to decide by.
SQNR in dB and top-1 agreement with the float model, both on the output before a final softmax, by onnxruntime on one
thread; CPU seconds and peak memory of calibration and corrections in that process. Written to
benchmarks/results/quantize_corrections.json. Accuracy doesn't depend on how busy the machine is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CASES = ("efficientnet_lite0", "resnet8_cifar10", "dscnn_kws", "ppocr_cls", "ultraface", "silero_vad")


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def run_case(folder: Path) -> dict[str, Any]:
    import onnx_ir as ir

    from edgec import data, frontends, passes, quantize
    from edgec.quantize.corrections.judge import before_probabilities, split
    from edgec.quantize.corrections.reconstruct import reconstruct
    from edgec.quantize.pipeline import ALTERNATIVES
    from edgec.quantize.session import Session

    spec = importlib.util.spec_from_file_location("zoo_eval", folder / "eval.py")
    assert spec is not None and spec.loader is not None
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    model = frontends.load(folder / "model.onnx").model
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    passes.run(model)
    start = cpu()
    made = quantize.quantize_with_data(model, calibration)
    cost = {"cpu_s": round(cpu() - start, 1), "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}

    feeds = list(case.feeds("eval"))
    reference = Session(before_probabilities(model), threads=1)
    expected = [reference.run(feed) for feed in feeds]

    def score(candidate: ir.Model) -> dict[str, float]:
        session = Session(before_probabilities(candidate), threads=1)
        got = [session.run(feed) for feed in feeds]
        decibel = data.sqnr_db([o for e in expected for o in e], [o for g in got for o in g])
        return {"sqnr_db": round(decibel, 2), "agreement": round(data.agreement(expected, got).value, 4)}

    start = cpu()
    plain = quantize.quantize_with_data(model, calibration, effort="plain")
    rows = {"minmax": score(plain.model)}
    needed = quantize.ranges_needed(model, plain.assignment)
    for name, ranges in quantize.calibrate_many(model, calibration, ALTERNATIVES, values=needed).items():
        rows[f"ranges: {name}"] = score(quantize.quantize(model, ranges, plain.assignment))
    _, held_out = split(calibration, 72, 32)
    shifted = quantize.correct_biases(model, plain.model, calibration)
    rows["bias correction" + ("" if shifted.kept else " (not kept)")] = score(shifted.model)
    for ridge in (1.0, 10.0, 100.0):
        fitted = reconstruct(model, plain.model, split(calibration, 72, 32)[0], ridge=ridge)
        if fitted is not None:
            rows[f"least squares, ridge {ridge:g}"] = score(fitted)
    rows["default"] = score(made.model)
    stages = [] if made.correction is None else [s.as_dict() for s in made.correction.stages]
    whole = case.evaluate(Session(made.model).run)
    evaluation = {k: v for k, v in whole.items() if isinstance(v, int | float)}
    return {
        "samples": len(feeds),
        "held_out": len(held_out),
        "rows": rows,
        "default": cost,
        "stages": stages,
        "task": evaluation,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--zoo", default=os.environ.get("EDGEC_ZOO", str(ROOT.parent / "shared" / "zoo")))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(run_case(Path(arguments.zoo) / arguments.cases[0])))
        return
    if not Path(arguments.zoo).is_dir():
        sys.exit(f"the zoo is not at {arguments.zoo}: set EDGEC_ZOO or --zoo")
    target = ROOT / "benchmarks" / "results" / "quantize_corrections.json"
    result = json.loads(target.read_text()) if target.exists() else {}
    for name in arguments.cases:
        command = [sys.executable, __file__, "--child", name, "--zoo", arguments.zoo]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result[name] = json.loads(done.stdout.strip().splitlines()[-1])
        print(f"{name}: default {result[name]['default']}, {result[name]['task']}", flush=True)
        for row, numbers in result[name]["rows"].items():
            print(f"  {row:32s} {numbers['sqnr_db']:6.2f} dB  {100 * numbers['agreement']:6.2f} %", flush=True)
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
