"""`make bench`: every figure that stands in README and docs, one after the other, on a machine that should be quiet."""

from __future__ import annotations

import subprocess
import sys

STEPS = (
    ["-m", "benchmarks.start_up"],
    ["-m", "benchmarks.call_overhead"],
    ["-m", "benchmarks.cold_start"],
    ["-m", "benchmarks.bundles"],
    ["-m", "benchmarks.verify_cost", "here"],
    ["benchmarks/quantize_plain.py"],
    ["benchmarks/quantize_corrections.py"],
    ["-m", "benchmarks.int8_speed"],
    ["benchmarks/cold_start_format.py"],
    ["benchmarks/node_suite.py", "--engine", "onnxruntime", "--engine", "bundle"],
    ["-m", "benchmarks.litert_coverage"],
    ["-m", "benchmarks.litert_nodes"],
)

failed = []
for step in STEPS:
    print(f"\n== {' '.join(step)}", flush=True)
    if subprocess.run([sys.executable, *step]).returncode:
        failed.append(step[-1])
if failed:
    sys.exit(f"these did not end well: {', '.join(failed)}")
