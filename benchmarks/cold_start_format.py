"""Which file starts fastest: .onnx, an optimized .onnx, or .ort? Fresh processes, interleaved, ratios to plain .onnx.

    python benchmarks/cold_start_format.py [--rounds 15] [--models resnet8_cifar10,…] [--precisions float32,int8]

A round starts one process for each variant in a shuffled (seeded) order; the process imports onnxruntime, opens the
session, runs once and says when it was done. Wall time is from just before the start of the process to the first
output (both on the system's monotonic clock); CPU time comes from wait4, peak memory from the process's own VmHWM
(wait4's maxrss would count this parent's pages: Linux carries it over exec). Variants:

    onnx              as edgec writes it
    basic, extended   saved by ONNX Runtime's optimizer at that level, opened with the default settings
    extended, trusted …the same file, opened with the optimizer switched off
    all, trusted      level ALL, opened with the optimizer off. NOT portable: it holds NCHWc nodes laid out for this CPU
    ort               ONNX Runtime's own format at level EXTENDED

A portable file may only come from BASIC or EXTENDED, and even EXTENDED holds operators of the engine's own domain
that an older release may lack. int8 files are made with onnxruntime.quantization (static, u8 x s8, per channel).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CHILD = """
import sys, time
import numpy as np
import onnxruntime as ort
model, feeds, level, out = sys.argv[1:5]
options = ort.SessionOptions()
options.log_severity_level = 3
if level == "off":
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
before = time.monotonic()
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
opened = time.monotonic() - before
with np.load(feeds) as stored:
    answers = session.run(None, {name: stored[name] for name in stored.files})
done = time.monotonic()
if out:
    np.savez(out, **{str(n): a for n, a in enumerate(answers)})
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(done, opened, peak)
"""
MODELS = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls", "silero_vad", "ultraface", "efficientnet_lite0", "minilm_sts")
VARIANTS: dict[str, tuple[str, str]] = {  # name -> (file made at, optimizer when opened)
    "onnx": ("plain", "default"),
    "basic": ("BASIC", "default"),
    "extended": ("EXTENDED", "default"),
    "extended, trusted": ("EXTENDED", "off"),
    "all, trusted": ("ALL", "off"),
    "ort": ("ORT", "default"),
}


@dataclass(frozen=True)
class Start:
    """One process: seconds from its start to the first output, CPU seconds, peak bytes, seconds to open the session."""

    wall: float
    cpu: float
    peak: int
    opened: float


def start(model: Path, feeds: Path, level: str, out: Path | None = None) -> Start:
    began = time.monotonic()
    command = [sys.executable, "-c", CHILD, str(model), str(feeds), level, str(out or "")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        words = child.stdout.read().split()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0 or len(words) != 3:
        raise SystemExit(f"{model} ended with {child.returncode}")
    return Start(float(words[0]) - began, usage.ru_utime + usage.ru_stime, int(words[2]) * 1024, float(words[1]))


def make(source: Path, folder: Path) -> dict[str, Path]:
    """Write every kind of file from one ONNX file."""
    import onnx_ir as ir
    import onnxruntime as ort

    from edgec_targets.emitters.onnxruntime.write import write

    plain = folder / "plain.onnx"
    plain.write_bytes(write(ir.load(source))[0])
    files = {"plain": plain}
    for name in ("BASIC", "EXTENDED", "ALL", "ORT"):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        level = "EXTENDED" if name == "ORT" else name
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
        files[name] = folder / f"{name}.{'ort' if name == 'ORT' else 'onnx'}"
        options.optimized_model_filepath = str(files[name])
        if name == "ORT":
            options.add_session_config_entry("session.save_model_format", "ORT")
        ort.InferenceSession(str(plain), options, providers=["CPUExecutionProvider"])
    return files


def domains(path: Path) -> list[str]:
    """The engine's own operators in a file: what an older or other build of the engine may not have."""
    import onnx

    if path.suffix == ".ort":
        return []
    graph = onnx.load(str(path), load_external_data=False).graph
    return sorted({f"{n.domain}::{n.op_type}" for n in graph.node if n.domain not in ("", "ai.onnx", "ai.onnx.ml")})


def first_feeds(case: Path) -> dict[str, np.ndarray]:
    """The first calibration input, as the case's own eval.py prepares it."""
    return next(iter(all_feeds(case, 1)))


def all_feeds(case: Path, limit: int) -> list[dict[str, np.ndarray]]:
    import importlib.util

    spec = importlib.util.spec_from_file_location(f"zoo_{case.name}", case / "eval.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.feeds("calib", limit))


def quantized(case: Path, folder: Path) -> Path:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.rest = iter(all_feeds(case, 8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    path = folder / "int8.onnx"
    q.quantize_static(
        case / "model.onnx",
        path,
        Reader(),
        per_channel=True,
        activation_type=q.QuantType.QUInt8,
        weight_type=q.QuantType.QInt8,
    )
    return path


def measure(case: Path, precision: str, rounds: int, seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = case / "model.onnx" if precision == "float32" else quantized(case, folder)
        files = make(source, folder)
        feeds = folder / "feeds.npz"
        np.savez(feeds, **first_feeds(case))
        answers: dict[str, list[np.ndarray]] = {}
        for variant, (kind, level) in VARIANTS.items():  # not timed: warms the page cache and takes the answers
            out = folder / "answers.npz"
            start(files[kind], feeds, level, out)
            with np.load(out) as stored:
                answers[variant] = [stored[key] for key in sorted(stored.files, key=int)]
        starts: dict[str, list[Start]] = {variant: [] for variant in VARIANTS}
        order = random.Random(seed)
        for _ in range(rounds):
            for variant in order.sample(list(VARIANTS), len(VARIANTS)):
                kind, level = VARIANTS[variant]
                starts[variant].append(start(files[kind], feeds, level))
        calls = later_calls(files, first_feeds(case), rounds)
        return {
            variant: summary(starts[variant], starts["onnx"], answers[variant], answers["onnx"])
            | {"bytes": files[kind].stat().st_size, "own_operators": domains(files[kind]), "call_ratio": calls[variant]}
            for variant, (kind, _) in VARIANTS.items()
        }


def later_calls(files: dict[str, Path], feeds: dict[str, np.ndarray], rounds: int) -> dict[str, float]:
    """What a start that is faster costs afterwards: CPU time of a warm call, one thread, ratio to plain .onnx.

    Interleaved in one process; a round is as many calls as fill 20 ms.
    """
    import onnxruntime as ort

    def opened(kind: str, level: str) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        if level == "off":
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return ort.InferenceSession(str(files[kind]), options, providers=["CPUExecutionProvider"])

    sessions = {variant: opened(kind, level) for variant, (kind, level) in VARIANTS.items()}

    def spent(variant: str, repeats: int) -> float:
        began = time.process_time()
        for _ in range(repeats):
            sessions[variant].run(None, feeds)
        return time.process_time() - began

    warm = min(spent("onnx", 1) for _ in range(3))
    repeats = max(1, round(0.02 / max(warm, 1e-6)))
    for variant in sessions:
        spent(variant, 2)
    times = [{variant: spent(variant, repeats) for variant in sessions} for _ in range(max(5, rounds))]
    return {v: round(statistics.median(t[v] / t["onnx"] for t in times), 3) for v in sessions}


def summary(these: list[Start], base: list[Start], answers: list[np.ndarray], want: list[np.ndarray]) -> dict[str, Any]:
    def ratio(field: str) -> list[float]:
        """Median and quartiles of the rounds' ratios to plain .onnx."""
        each = [getattr(a, field) / getattr(b, field) for a, b in zip(these, base, strict=True)]
        low, _, high = statistics.quantiles(each, n=4) if len(each) > 1 else (each[0],) * 3
        return [round(v, 3) for v in (statistics.median(each), low, high)]

    difference = max(
        (
            float(np.max(np.abs(a.astype(np.float64) - w.astype(np.float64)), initial=0))
            for a, w in zip(answers, want, strict=True)
        ),
        default=0.0,
    )
    return {
        "wall_ms": round(statistics.median(s.wall for s in these) * 1e3, 1),
        "cpu_ms": round(statistics.median(s.cpu for s in these) * 1e3, 1),
        "open_ms": round(statistics.median(s.opened for s in these) * 1e3, 2),
        "peak_mb": round(statistics.median(s.peak for s in these) / 1e6, 1),
        "wall_ratio": ratio("wall"),
        "cpu_ratio": ratio("cpu"),
        "peak_ratio": ratio("peak"),
        "same_bits": all(np.array_equal(a, w, equal_nan=True) for a, w in zip(answers, want, strict=True)),
        "max_difference": difference,
    }


def show(title: str, result: dict[str, Any]) -> None:
    print(f"\n{title}")
    head = f"{'variant':<18}{'wall ms':>9}{'ratio [quartiles]':>23}{'CPU':>7}"
    print(f"{head}{'open ms':>9}{'peak MB':>9}{'MB':>8}{'call':>7}  answers")
    for variant, r in result.items():
        median, low, high = r["wall_ratio"]
        same = "same bits" if r["same_bits"] else f"max diff {r['max_difference']:.1e}"
        own = f"; {len(r['own_operators'])} own operators" if r["own_operators"] else ""
        print(
            f"{variant:<18}{r['wall_ms']:>9.1f}{f'{median:.3f} [{low:.3f} {high:.3f}]':>23}{r['cpu_ratio'][0]:>7.3f}"
            f"{r['open_ms']:>9.1f}{r['peak_mb']:>9.1f}{r['bytes'] / 1e6:>8.2f}{r['call_ratio']:>7.3f}  {same}{own}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).parent
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--precisions", default="float32,int8")
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--out", type=Path, default=here / "results" / "cold_start_format.json")
    asked = parser.parse_args()
    from edgec.measure.machine import this_machine

    zoo = Path(os.environ.get("EDGEC_ZOO", here.parent.parent / "shared" / "zoo"))
    results: dict[str, Any] = {}
    for name in asked.models.split(","):
        if not (zoo / name / "model.onnx").is_file():
            print(f"{name}: not in {zoo}, left out")
            continue
        for precision in asked.precisions.split(","):
            results[f"{name} {precision}"] = measure(zoo / name, precision, asked.rounds, asked.seed)
            show(f"{name} {precision}, {asked.rounds} rounds", results[f"{name} {precision}"])
    if not results:
        raise SystemExit(f"no models at {zoo}: set EDGEC_ZOO")
    print(
        "\nall models: geometric means of the ratios of wall time, CPU time, peak memory, and a later call's CPU time"
    )
    means: dict[str, list[float]] = {}
    for variant in VARIANTS:
        means[variant] = [
            round(statistics.geometric_mean(r[variant][key][0] for r in results.values()), 3)
            for key in ("wall_ratio", "cpu_ratio", "peak_ratio")
        ]
        means[variant].append(round(statistics.geometric_mean(r[variant]["call_ratio"] for r in results.values()), 3))
        print(f"{variant:<18}" + "".join(f"{mean:>8.3f}" for mean in means[variant]))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": this_machine().as_dict(),
        "load_average": os.getloadavg(),
        "versions": {n: version(n) for n in ("onnxruntime", "onnx", "onnx-ir", "numpy")}
        | {"python": sys.version.split()[0]},
        "rounds": asked.rounds,
        "seed": asked.seed,
        "geometric_means": {
            variant: dict(zip(("wall", "cpu", "peak", "call"), v, strict=True)) for variant, v in means.items()
        },
        "results": results,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written: {asked.out}")


if __name__ == "__main__":
    main()
