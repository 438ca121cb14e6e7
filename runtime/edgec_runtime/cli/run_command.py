"""`edgec-rt run FILE|--app NAME --input X.npz [-o Y.npz]`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from edgec_runtime.cli import source


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Load, run once, say what came out: the payload, seconds, each output's dtype, shape and first values."""
    source.check(options)
    feeds = source.read_npz(options.input)
    with source.open_model(options) as model:
        start = time.perf_counter()
        outputs = model.run(feeds)
        seconds = time.perf_counter() - start
        info = model.info
    if options.output:
        source.write_npz(options.output, outputs)
    return {
        "payload": info["payload"],
        "seconds": seconds,
        "outputs": {name: _described(array) for name, array in outputs.items()},
        "written": options.output,
    }


def text(result: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{result['payload']}, {result['seconds'] * 1e3:.2f} ms"]
    for name, output in result["outputs"].items():
        values = " ".join(value if isinstance(value, str) else f"{value:.5g}" for value in output["first"])
        lines.append(f"  {name}  {output['dtype']}{output['shape']}  {values}{' …' if output['more'] else ''}")
    if result["written"]:
        lines.append(f"wrote {result['written']}")
    return "\n".join(lines)


def _described(array: Any) -> dict[str, Any]:
    flat = array.reshape(-1)
    first = [
        value if isinstance(value, (str, int, float)) else str(value) for value in (item.tolist() for item in flat[:8])
    ] if array.dtype.kind in "fiub" else [str(value) for value in flat[:8]]  # fmt: skip
    return {"dtype": str(array.dtype), "shape": list(array.shape), "first": first, "more": flat.size > 8}
