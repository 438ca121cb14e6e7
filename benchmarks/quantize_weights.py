"""Weight-only quantization on the zoo: accuracy, size and cost of making it, then speed and memory of each form.

    python -m benchmarks.quantize_weights [ROW … | --speed | --others]

MiniLM on its own evaluation set, each row in a process of its own: dB of the embedding against the float model, cosine
(5th percentile and least), Spearman, file size, CPU seconds and peak memory of quantizing. Rows "to nearest" have no
data. Then the forms in turn in one process (one thread): float's CPU time over theirs, round by round; and the memory
that a process has after loading the file and one call. Accuracy doesn't depend on how busy the machine is; memory
hardly. Goes to results/quantize_weights.json.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import record, zoo

CASE = "minilm_sts"
ROWS: dict[str, dict[str, Any]] = {
    "int8": {"bits": 8},
    "int8, to nearest": {"bits": 8, "data": None},
    "int4": {"bits": 4},
    "int4, to nearest": {"bits": 4, "data": None},
    "at most 20 MB": {"bits": 4, "max_bytes": 20_000_000},
}
FORMS = {
    "int8 folded": (8, "folded"),
    "int8 qdq": (8, "qdq"),
    "int8 nbits": (8, "nbits"),
    "int4 folded": (4, "folded"),
    "int4 qdq": (4, "qdq"),
}
OTHERS = ("resnet8_cifar10", "dscnn_kws", "silero_vad", "ppocr_cls", "ultraface", "efficientnet_lite0")
ROUNDS = 25


def quantized(row: dict[str, Any], name: str = CASE) -> tuple[Any, Any]:
    """The float model and what quantizing made of it."""
    from edgec import data, frontends, passes
    from edgec.quantize.weights import quantize_weights

    folder = zoo.folder(name)
    model = frontends.load(folder / "model.onnx").model
    passes.run(model)
    calibration = data.load_calibration(f"{folder}/eval.py:feeds", model.graph.inputs)
    return model, quantize_weights(model, **{"data": calibration, **row})


def accuracy(row: dict[str, Any]) -> dict[str, Any]:
    """One row of the table, in this process."""
    import onnx_ir as ir

    from edgec.quantize.session import Session

    start = time.process_time()
    model, made = quantized(row)
    cost = {
        "cpu_s": round(time.process_time() - start, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    case = zoo.module(CASE)
    feeds = list(case.feeds("eval"))

    def outputs(which: ir.Model) -> dict[bytes, np.ndarray]:
        session = Session(which, threads=1)
        return {feed["input_ids"].tobytes(): session.run(feed)[0] for feed in feeds}

    expected, got = outputs(model), outputs(made.model)
    a, b = (np.concatenate([o[f["input_ids"].tobytes()] for f in feeds]).astype(np.float64) for o in (expected, got))
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    formats: dict[str, int] = {}
    for layer in made.report()["layers"]:
        key = f"{layer['kind']} {layer['format']}"
        formats[key] = formats.get(key, 0) + 1
    return {
        "sqnr_db": round(float(10 * np.log10(np.square(a).sum() / np.square(a - b).sum())), 2),
        "cosine_p5": round(float(np.percentile(cosine, 5)), 5),
        "cosine_min": round(float(cosine.min()), 5),
        "spearman": case.evaluate(lambda feed: [got[feed["input_ids"].tobytes()]])["value"],
        "spearman_float": case.evaluate(lambda feed: [expected[feed["input_ids"].tobytes()]])["value"],
        "megabytes": round(ir.to_proto(made.model).ByteSize() / 1e6, 2),
        "held_out_db": made.report()["sqnr_db"],
        "formats": formats,
        **cost,
    }


def other(name: str) -> dict[str, Any]:
    """Another case with int8 weights: dB before a final softmax on every eighth evaluation sample."""
    import onnx_ir as ir

    from edgec.data import sqnr_db
    from edgec.quantize.corrections.judge import before_probabilities
    from edgec.quantize.session import Session

    start = time.process_time()
    model, made = quantized({"bits": 8}, name)
    seconds = time.process_time() - start
    feeds = list(zoo.module(name).feeds("eval"))[::8]
    float_session, session = (Session(before_probabilities(m), threads=1) for m in (model, made.model))
    pairs = [(float_session.run(feed)[0], session.run(feed)[0]) for feed in feeds]
    return {
        "sqnr_db": round(sqnr_db([a for a, _ in pairs], [b for _, b in pairs]), 2),
        "samples": len(feeds),
        "held_out_db": made.report()["sqnr_db"],
        "kilobytes": [ir.to_proto(m).ByteSize() // 1000 for m in (model, made.model)],
        "cpu_s": round(seconds, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def forms(where: Path) -> dict[str, Any]:
    """Speed and memory of each form, weights rounded to nearest: neither depends on their values."""
    from benchmarks.int8_speed import session
    from edgec import frontends
    from edgec.quantize.weights import quantize_weights

    model, _ = quantized({"bits": 8, "data": None})
    made = {"float32": model} | {
        name: quantize_weights(model, bits=bits, form=form).model  # type: ignore[arg-type]
        for name, (bits, form) in FORMS.items()
    }
    made["at most 20 MB"] = quantize_weights(model, bits=4, max_bytes=20_000_000).model
    files = {}
    for name, which in made.items():
        files[name] = where / f"{name.replace(' ', '_')}.onnx"
        files[name].write_bytes(frontends.save_bytes(which))
    feed = zoo.first_feed(CASE)
    sessions = {name: session(path.read_bytes()) for name, path in files.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for turn in range(-1, ROUNDS):
        for name in sorted(sessions, reverse=bool(turn % 2)):
            start = time.process_time()
            sessions[name].run(None, feed)
            if turn >= 0:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    del sessions
    result = {}
    for name, path in files.items():
        done = child("--memory", str(path))
        result[name] = {
            "float_over_this": record.ratio(seconds["float32"], seconds[name]),
            "megabytes": round(path.stat().st_size / 1e6, 2),
            **json.loads(done),
        }
    return result


def memory(path: Path) -> dict[str, Any]:
    """Memory of this process with the model loaded and run once, less what it had before."""
    import onnxruntime as ort

    feed = zoo.first_feed(CASE)

    def now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    before = now()
    start = time.process_time()
    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    loaded = time.process_time() - start
    session.run(None, feed)
    return {"resident_mib": (now() - before) >> 20, "load_cpu_s": round(loaded, 2)}


def child(*arguments: str) -> str:
    """The last line of what a fresh process of this program prints."""
    command = [sys.executable, "-m", "benchmarks.quantize_weights", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    if "--row" in sys.argv:
        return print(json.dumps(accuracy(ROWS[sys.argv[-1]])))
    if "--other" in sys.argv:
        return print(json.dumps(other(sys.argv[-1])))
    if "--memory" in sys.argv:
        return print(json.dumps(memory(Path(sys.argv[-1]))))
    path = record.RESULTS / "quantize_weights.json"
    kept = json.loads(path.read_text())["figures"] if path.exists() else {}
    figures: dict[str, Any] = {"accuracy": kept.get("accuracy", {}), "forms": kept.get("forms", {})}
    figures["others"] = kept.get("others", {})
    chosen = [name for name in ROWS if name in sys.argv]
    for name in OTHERS if not chosen and "--speed" not in sys.argv else ():
        figures["others"][name] = json.loads(child("--other", name))
        print(name, figures["others"][name], flush=True)
        record.save("quantize_weights", figures, case=CASE)
    if "--others" in sys.argv:
        return None
    if "--speed" not in sys.argv:
        for name in chosen or ROWS:
            figures["accuracy"][name] = json.loads(child("--row", name))
            print(name, figures["accuracy"][name], flush=True)
            record.save("quantize_weights", figures, case=CASE)
    if chosen:
        return None
    with tempfile.TemporaryDirectory() as folder:
        figures["forms"] = forms(Path(folder))
    for name, row in figures["forms"].items():
        print(name, row, flush=True)
    record.save("quantize_weights", figures, case=CASE)
    return None


if __name__ == "__main__":
    main()
