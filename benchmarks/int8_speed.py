"""CPU time of int8 against float32 in onnxruntime, one thread: everything integer, and only where it pays.

    python -m benchmarks.int8_speed [CASE …]

For each zoo case three files by `--effort plain` rules (corrections don't change speed): float32 after the passes, int8
in every layer that can be, and int8 after `placement/worth.py`. They run in turn in one process; the figures are ratios
of `time.process_time`, float's over int8's, round by round (over 1: int8 is faster). Goes to results/int8_speed.json.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

from benchmarks import record, zoo
from edgec import data, frontends, passes, quantize

ROUNDS, TURN = 41, 0.03


def files(case: str) -> tuple[dict[str, bytes], quantize.Quantized]:
    folder = zoo.folder(case)
    model = frontends.load(folder / "model.onnx").model
    inputs = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", inputs).select(0, None, 8)
    passes.run(model)
    everything = quantize.quantize_with_data(model, calibration, effort="plain", arch="")
    paying = quantize.quantize_with_data(model, calibration, effort="plain", arch="x86_64")
    made = {"float32": model, "everything": everything.model, "where it pays": paying.model}
    return {name: frontends.save_bytes(m) for name, m in made.items()}, paying


def session(content: bytes) -> Any:
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def timed(contents: dict[str, bytes], feed: dict[str, Any]) -> dict[str, list[float]]:
    """Seconds of CPU a call, by file, one value a round."""
    sessions = {name: session(content) for name, content in contents.items()}
    calls = {}
    for name, s in sessions.items():
        s.run(None, feed)
        start = time.process_time()
        for _ in range(3):
            s.run(None, feed)
        calls[name] = max(1, int(TURN / max((time.process_time() - start) / 3, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(ROUNDS):
        for name in sorted(sessions, reverse=bool(turn % 2)):
            start = time.process_time()
            for _ in range(calls[name]):
                sessions[name].run(None, feed)
            found[name].append((time.process_time() - start) / calls[name])
    return found


def main() -> None:
    figures = {}
    for case in sys.argv[1:] or [c for c in zoo.CASES if c != "silero_vad"]:
        contents, paying = files(case)
        seconds = timed(contents, zoo.first_feed(case))
        row: dict[str, Any] = {"float_ms": round(1e3 * float(np.median(seconds["float32"])), 3)}
        for name in ("everything", "where it pays"):
            row[name] = {**record.ratio(seconds["float32"], seconds[name]), "bytes": len(contents[name])}
        row["left_in_float"] = len(paying.worth.dropped) if paying.worth else 0
        row["pays"] = bool(paying.worth and paying.worth.pays)
        figures[case] = row
        print(
            f"{case:20s} float {row['float_ms']:8.3f} ms  everything × {row['everything']['median']:.2f}  "
            f"where it pays × {row['where it pays']['median']:.2f} ({row['left_in_float']} layers stay float"
            f"{'' if row['pays'] else '; pays nowhere'})",
            flush=True,
        )
    if not sys.argv[1:]:
        record.save("int8_speed", figures, unit="CPU time of float32 over int8's, 1 thread")


if __name__ == "__main__":
    main()
