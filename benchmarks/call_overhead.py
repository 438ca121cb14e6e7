"""What a call of the runtime costs over the engine's own, on the smallest zoo model, and 100,000 calls' memory.

    python benchmarks/call_overhead.py [--rounds 60] [--calls 200] [--soak 100000]

In one process, one thread, interleaved: `session.run(None, feed)` of onnxruntime on the payload's own bytes,
`Model.run(feed)`, and `Model.run(feed, out=buffers)`. The overhead is the median over
rounds of the difference of the rounds' medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

import edgec_runtime as rt
from benchmarks.record import save
from benchmarks.zoo import compiled, first_feed
from edgec.measure.interleaved import percentile
from edgec.measure.worker import peak

CASE = "dscnn_kws"


def resident() -> int:
    """Resident memory now, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024


def median_seconds(function: Any, calls: int) -> float:
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--soak", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = compiled(CASE, "int8", Path(folder))
        feed = first_feed(CASE)
        model = rt.load(bundle, threads=1)
        with rt.bundle.open(bundle) as opened:
            payload = opened.manifest["payloads"][0]
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(
                opened.read(payload["files"]["model"]), settings, providers=["CPUExecutionProvider"]
            )
        buffers = {k: np.empty_like(v) for k, v in model.run(feed).items()}
        ways = {
            "onnxruntime session.run": lambda: session.run(None, feed),
            "edgec_runtime Model.run": lambda: model.run(feed),
            "edgec_runtime Model.run(out=)": lambda: model.run(feed, out=buffers),
        }
        medians: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(asked.rounds):
            order = list(ways) if turn % 2 else list(ways)[::-1]
            for name in order:
                medians[name].append(median_seconds(ways[name], asked.calls))
        base = medians["onnxruntime session.run"]
        figures: dict[str, Any] = {}
        for name, values in medians.items():
            over = [(a - b) * 1e6 for a, b in zip(values, base, strict=True)]
            f = figures[name] = {
                "median_us": round(statistics.median(values) * 1e6, 2),
                "over_engine_us": round(statistics.median(over), 2),
                "p10": round(percentile(over, 0.1), 2),
                "p90": round(percentile(over, 0.9), 2),
            }
            print(
                f"{name:32} {f['median_us']:8.2f} µs   over the engine's own call {f['over_engine_us']:+6.2f} µs "
                f"(p10 {f['p10']:+.2f}, p90 {f['p90']:+.2f})"
            )
        memory = [resident()]
        for _ in range(10):
            for _ in range(asked.soak // 10):
                model.run(feed)
            memory.append(resident())
        figures["soak"] = {"calls": asked.soak, "resident_bytes": memory, "peak_bytes": peak()}
        kib = ", ".join(f"{m / 1024:.0f}" for m in memory)
        print(f"{asked.soak} calls, resident memory at each tenth in KiB: {kib}")
    print("bars: ≤ 5 µs over the engine's own run, memory flat")
    print(save("call_overhead", figures, rounds=asked.rounds, calls=asked.calls, case=CASE))


if __name__ == "__main__":
    main()
