"""Every zoo case as a bundle for this machine and a Raspberry Pi 5: sizes, accuracy, node counts.

    python -m benchmarks.bundles [--cases dscnn_kws,…]

Default effort, the zoo's calibration and evaluation data; accuracy is taken by the runtime's adapter on the payload
itself. Sizes in bytes; the bar for a bundle is 1.02 × payloads + golden + 64 KB, and for golden vectors 5 % of the
largest payload or 256 KB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import save
from benchmarks.zoo import CASES, folder
from edgec.compiler import compile


def measure(case: str, precision: str, where: Path) -> dict[str, Any]:
    data = folder(case)
    start = time.process_time()
    made = compile(
        data / "model.onnx",
        "host,rpi5",
        output=where / "m.edge",
        calib=f"{data}/eval.py:feeds",
        eval=f"{data}/eval.py:evaluate",
        precision=precision,
        name=case,
    )
    seconds = time.process_time() - start
    sizes = {m["name"]: m["size"] for m in made.manifest["members"]}
    payloads = [size for name, size in sizes.items() if name.startswith("payloads/")]
    golden = sum(size for name, size in sizes.items() if name.startswith("golden/"))
    accuracy = made.report["accuracy"][f"onnxruntime-{precision}-host"]
    operators = made.report["operators"]
    return {
        "metric": accuracy["metric"],
        "float": accuracy["float_value"],
        "value": accuracy["value"],
        "n": accuracy["n"],
        "sqnr_db": accuracy["sqnr_db"],
        "source_bytes": (data / "model.onnx").stat().st_size,
        "payload_bytes": max(payloads),
        "golden_bytes": golden,
        "bundle_bytes": made.size,
        "bundle_within_bar": made.size <= 1.02 * sum(payloads) + golden + 65536,
        "golden_within_bar": golden <= max(0.05 * max(payloads), 256 * 1024),
        "nodes_before": sum(operators["before"].values()),
        "nodes_after": sum(operators["after"].values()),
        "cpu_s": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", default=",".join(CASES))
    os.environ["EDGEC_CONFIG"], os.environ["EDGEC_ROOT"] = tempfile.mkdtemp(), tempfile.mkdtemp()
    figures: dict[str, Any] = {}
    for case in parser.parse_args().cases.split(","):
        for precision in ("float32", "int8"):
            with tempfile.TemporaryDirectory() as where:
                f = figures[f"{case} {precision}"] = measure(case, precision, Path(where))
            print(
                f"{case:20} {precision:8} {f['metric']} {f['value']:.4f}, float {f['float']:.4f}, {f['sqnr_db']:.1f} dB"
                f"  nodes {f['nodes_before']}→{f['nodes_after']}  {f['source_bytes'] / 1e6:.2f}→"
                f"{f['payload_bytes'] / 1e6:.2f} MB, golden {f['golden_bytes'] / 1e3:.0f} kB"
                f"  within bars: {f['bundle_within_bar']}, {f['golden_within_bar']}  {f['cpu_s']:.0f} CPU s",
                flush=True,
            )
    print(save("bundles", figures))


if __name__ == "__main__":
    main()
