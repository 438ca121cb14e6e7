"""CPU time of the float payloads against ONNX Runtime's float32, one thread, in turn in one process.

    python -m benchmarks.float_payloads [CASE …]

For each zoo case the float model after the passes, as each emitter writes it, run by the device's own adapter (LiteRT,
ncnn, TVM); and by the package `onnxruntime`, to which the ratios are. An engine that isn't installed, or can't run a
model, is left out with its reason. Beside the times: accuracy beside ONNX Runtime on real inputs (largest difference,
signal over error), bytes of the files, milliseconds of CPU to load. Goes to results/float_payloads.json.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from benchmarks import record, zoo
from edgec import frontends, passes
from edgec_runtime import engines
from edgec_runtime.errors import Error
from edgec_runtime.payload import StoredPayload
from edgec_targets import registry
from edgec_targets.types import Board, Built

BASE = "onnxruntime"
ENGINES = ("litert", "ncnn", "tvm")
PACKAGES = {"litert": "ai-edge-litert", "ncnn": "ncnn", "tvm": "apache-tvm"}
ROUNDS, TURN = 41, 0.03
SAMPLES = 30
Run = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


def float_model(case: str) -> ir.Model:
    """The case's model after the passes, for one input at a time."""
    model = frontends.load(zoo.folder(case) / "model.onnx").model
    passes.run(model)
    for value in model.graph.inputs:
        value.shape = ir.Shape([d if isinstance(d, int) else 1 for d in value.shape or ()])
    return model


def host() -> Board:
    """This machine, with every engine that there is an emitter for."""
    board = registry.board("host")
    return replace(board, threads=1, engines={**board.engines, **dict.fromkeys(ENGINES, ">=0")})


def session(content: bytes) -> Any:
    """ONNX Runtime by its own package, one thread."""
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def emitted(engine: str, model: ir.Model, board: Board) -> Built:
    """The engine's payload. Raises Error or ImportError with the reason where there is none."""
    emitter = getattr(import_module(f"edgec_targets.emitters.{engine}"), "EMITTER", None)
    if emitter is None or engines.find(engine) is None:
        raise ImportError(f"edgec has no emitter or no adapter for {engine}")
    built: Built = emitter.emit(model.clone(), board, precision="float32")
    return built


def loaded(built: Built, folder: Path, names: list[str]) -> tuple[Run, float]:
    """A payload as a device loads it, installed and proven; and the CPU seconds that it takes to load a second time."""
    files = {}
    for role, (name, content) in built.files.items():
        files[role] = str(folder / f"{built.engine}-{name}")
        Path(files[role]).write_bytes(content)
    engine = engines.find(built.engine)
    assert engine is not None
    entry = {"engine": built.engine, "engine_version": built.engine_version, "files": files}
    payload = StoredPayload(entry, files)
    payload.proven = library.stamp() if (library := engine.library()) else ""
    engine.load(payload, {"threads": 1}).close()
    start = time.process_time()
    executable = engine.load(payload, {"threads": 1})
    seconds = time.process_time() - start
    return lambda feeds: executable.run(names, feeds), seconds


def accuracy(run: Run, reference: Any, samples: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Beside ONNX Runtime on real inputs: the largest difference, and signal over error in dB over all outputs."""
    worst = signal = error = 0.0
    for feeds in samples:
        for ours, theirs in zip(run(feeds), reference.run(None, feeds), strict=True):
            difference = np.asarray(ours, np.float64) - theirs
            worst = max(worst, float(np.abs(difference).max()))
            signal += float(np.square(theirs, dtype=np.float64).sum())
            error += float(np.square(difference).sum())
    decibels = 10 * np.log10(signal / error) if error else np.inf
    return {"samples": len(samples), "max_difference": float(f"{worst:.3g}"), "sqnr_db": round(float(decibels), 1)}


def timed(runs: Mapping[str, Run], feeds: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Seconds of CPU a call, by engine, one value a round."""
    calls = {}
    for name, run in runs.items():
        run(feeds)
        start = time.process_time()
        for _ in range(3):
            run(feeds)
        calls[name] = max(1, int(TURN / max((time.process_time() - start) / 3, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(ROUNDS):
        for name in sorted(runs, reverse=bool(turn % 2)):
            start = time.process_time()
            for _ in range(calls[name]):
                runs[name](feeds)
            found[name].append((time.process_time() - start) / calls[name])
    return found


def samples(case: str, model: ir.Model, count: int) -> list[dict[str, np.ndarray]]:
    """The first evaluation inputs; those of another size (a longer stream) are cut to the model's."""
    sizes = {str(v.name): tuple(d for d in v.shape or () if isinstance(d, int)) for v in model.graph.inputs}
    found = []
    for feeds in itertools.islice(zoo.module(case).feeds("eval"), count):
        cut = {name: feeds[name][tuple(slice(n) for n in size)] for name, size in sizes.items()}
        found.append({name: np.ascontiguousarray(array) for name, array in cut.items()})
    return found


def measure(case: str) -> dict[str, Any]:
    """One case's row."""
    model, board = float_model(case), host()
    reference = session(frontends.save_bytes(model))
    names = [output.name for output in reference.get_outputs()]
    inputs = samples(case, model, SAMPLES)
    row: dict[str, Any] = {"engines": {}, "left_out": {}}
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Run] = {BASE: lambda feeds: reference.run(None, feeds)}
        for engine in ENGINES:
            try:
                built = emitted(engine, model, board)
                run, seconds = loaded(built, Path(folder), names)
            except (Error, ImportError) as e:
                row["left_out"][engine] = " ".join(str(e).split())[:300]
                continue
            runs[engine] = run
            row["engines"][engine] = {
                "bytes": sum(len(content) for _, content in built.files.values()),
                "load_ms": round(1e3 * seconds, 2),
                **accuracy(run, reference, inputs),
            }
        seconds_by = timed(runs, inputs[0])
    row["onnxruntime_us"] = round(1e6 * statistics.median(seconds_by[BASE]), 1)
    for engine, figures in row["engines"].items():
        figures["time"] = record.ratio(seconds_by[engine], seconds_by[BASE])
    row["best"] = min(row["engines"], key=lambda e: row["engines"][e]["time"]["median"], default=None)
    return row


def versions() -> dict[str, str]:
    """Of the engines' packages that are installed."""
    found = {}
    for package in PACKAGES.values():
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Print a line a case; save where all were measured."""
    figures = {}
    for case in sys.argv[1:] or zoo.CASES:
        row = figures[case] = measure(case)
        cells = []
        for engine, found in row["engines"].items():
            spread = "{median:.2f} ({p10:.2f}–{p90:.2f})".format(**found["time"])
            cells.append(f"{engine} × {spread}, {found['sqnr_db']:.0f} dB, load {found['load_ms']:.1f} ms")
        print(f"{case:20s} onnxruntime {row['onnxruntime_us']:9.1f} µs  {' | '.join(cells)}", flush=True)
        for engine, why in row["left_out"].items():
            print(f"{'':20s} without {engine}: {why}", flush=True)
    if not sys.argv[1:]:
        record.save("float_payloads", figures, unit="CPU time over onnxruntime's float32, 1 thread", engines=versions())


if __name__ == "__main__":
    main()
