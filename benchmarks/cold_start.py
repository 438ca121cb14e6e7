"""Process start to first output: an installed app in edgec-runtime against bare onnxruntime on the same file.

    python benchmarks/cold_start.py [--rounds 15] [--cases dscnn_kws,…]

Fresh processes, interleaved, in an order that turns. Wall time from just before the process starts to its first output
(both on the monotonic clock), CPU time of the child, peak memory from its VmHWM. The first, verifying load of the
bundle file is a row of its own. int8 payloads, threads as the engine's own default in all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import compiled_python, ratio, save
from benchmarks.zoo import CASES, compiled, first_feed

END = """
done = time.monotonic()
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
usage = time.process_time()
print(done, usage, peak)
"""
BARE = (
    """
import sys, time
import numpy
import onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
with numpy.load(sys.argv[2]) as data:
    feed = {name: data[name] for name in data.files}
session.run(None, feed)
"""
    + END
)
OURS = (
    """
import sys, time
import edgec_runtime
model = edgec_runtime.load(**{sys.argv[3]: sys.argv[1]})
import numpy
with numpy.load(sys.argv[2]) as data:
    feed = {name: data[name] for name in data.files}
model.run(feed)
"""
    + END
)


def once(code: str, *arguments: str) -> tuple[float, float, int]:
    """Wall seconds from start to first output, CPU seconds, peak bytes."""
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True, env=compiled_python()
    )
    end, cpu, peak = done.stdout.split()
    return float(end) - start, float(cpu), int(peak)


def measure(case: str, rounds: int, where: Path) -> dict[str, Any]:
    import numpy as np

    from edgec_runtime.bundle import open as read
    from edgec_runtime.slots.install import install

    os.environ["EDGEC_ROOT"] = str(where / "root")
    bundle = compiled(case, "int8", where)
    install(bundle)
    np.savez(where / "feed.npz", **first_feed(case))
    with read(bundle) as opened:
        plain = where / "plain.onnx"
        plain.write_bytes(opened.read(opened.manifest["payloads"][0]["files"]["model"]))
    feed = str(where / "feed.npz")
    ways = {
        "bare onnxruntime": (BARE, str(plain), feed),
        "installed app": (OURS, case, feed, "app"),
        "bundle file, verified": (OURS, str(bundle), feed, "path"),
    }
    taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in ways}
    names = list(ways)
    for turn in range(rounds + 1):
        for name in names[turn % 3 :] + names[: turn % 3]:
            got = once(*ways[name])
            if turn:
                taken[name].append(got)
    base = taken["bare onnxruntime"]
    figures = {}
    for name, values in taken.items():
        figures[name] = {
            "wall_ms": round(statistics.median(v[0] for v in values) * 1e3, 1),
            "cpu_ms": round(statistics.median(v[1] for v in values) * 1e3, 1),
            "peak_mb": round(statistics.median(v[2] for v in values) / 1e6, 1),
            "wall_ratio": ratio([v[0] for v in values], [b[0] for b in base]),
            "cpu_ratio": ratio([v[1] for v in values], [b[1] for b in base]),
            "peak_ratio": ratio([float(v[2]) for v in values], [float(b[2]) for b in base]),
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", default=",".join(CASES))
    asked = parser.parse_args()
    figures = {}
    os.environ["EDGEC_CONFIG"] = tempfile.mkdtemp()
    for case in asked.cases.split(","):
        with tempfile.TemporaryDirectory() as where:
            figures[case] = measure(case, asked.rounds, Path(where))
        for name, f in figures[case].items():
            w, c, p = f["wall_ratio"], f["cpu_ratio"], f["peak_ratio"]
            print(
                f"{case:20} {name:22} {f['wall_ms']:7.1f} ms  {w['median']:.3f} × ({w['p10']:.2f}–{w['p90']:.2f})  "
                f"CPU {c['median']:.3f} ×  peak {f['peak_mb']:6.1f} MB {p['median']:.3f} ×",
                flush=True,
            )
    print("bars: installed app ≤ 1.05 × in wall and in peak memory")
    print(save("cold_start", figures, rounds=asked.rounds))


if __name__ == "__main__":
    main()
