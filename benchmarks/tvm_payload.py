"""The TVM payload beside ONNX Runtime and LiteRT, all in float32 on one thread.

    python -m benchmarks.tvm_payload [count | same | time] [CASE …]      (nothing: all; needs the extra `tvm`)

count  instructions of an inference on an emulated Cortex-A53 and Cortex-A76, each payload called as it is on a device
       (ours by edgec_runtime without numpy, the others by their packages). Exact, and no time.
same   the largest difference from ONNX Runtime's answers here, and the least signal to noise, over the first 30
       evaluation inputs: compiled for this machine, and for a Cortex-A53 under emulation
time   CPU time of a call on this machine over ONNX Runtime's, interleaved in one process, medians of rounds

Goes to results/tvm_payload.json, each part and case as it is there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arm_files, record, zoo
from edgec import frontends, passes
from edgec.errors import Error
from edgec_runtime import engines
from edgec_runtime.payload import StoredPayload
from edgec_targets import registry
from edgec_targets.emitters.tvm import EMITTER
from edgec_toolchains import aarch64

CASES = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls", "ultraface", "efficientnet_lite0")
BOARDS = {"cortex-a53": "rpi-zero2w", "cortex-a76": "rpi5"}
RUNTIME = Path(__file__).parents[1] / "runtime"
INPUTS, ROUNDS, TURN = 30, 31, 0.03


def model(case: str) -> Any:
    loaded = frontends.load(zoo.folder(case) / "model.onnx").model
    passes.run(loaded)
    return loaded


def files(case: str, folder: Path) -> dict[str, Path]:
    """The model after the passes for each engine, but TVM's."""
    from edgec_targets.emitters.litert.conversion import convert

    made = {"onnxruntime": folder / f"{case}.onnx"}
    made["onnxruntime"].write_bytes(frontends.save_bytes(model(case)))
    written = convert(model(case))
    if written.data is not None:
        made["litert"] = folder / f"{case}.tflite"
        made["litert"].write_bytes(written.data)
    return made


def compiled(case: str, board: str, folder: Path) -> tuple[Path, dict[str, Any]]:
    """A payload for a board, and how it was made."""
    described = registry.board(board)
    described = dataclasses.replace(described, engines={**described.engines, "tvm": ">=1,<2"})
    begin = time.monotonic()
    built = EMITTER.emit(model(case), described, precision="float32")
    about = json.loads(built.files["tiles"][1])
    path = folder / f"{case}-{board}.so"
    path.write_bytes(built.files["model"][1])
    seconds = round(time.monotonic() - begin, 1)
    return path, {
        "bytes": path.stat().st_size, "compile_seconds": seconds, "tiles": about["chosen_by"],
        "unscheduled": about["unscheduled"],
    }  # fmt: skip


def entry(engine: str) -> dict[str, Any]:
    return {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}}


def count(case: str, folder: Path) -> dict[str, Any]:
    feeds = arm_files.single(case, 1) * 3  # the first call of a process is longer, whatever the engine
    found: dict[str, Any] = {}
    for core_name, board in BOARDS.items():
        core = aarch64.core(core_name)
        path, about = compiled(case, board, folder)
        ran = aarch64.infer(core, path, feeds, engine="edgec", entry=entry("tvm"), paths=[RUNTIME], wheels=())
        row: dict[str, Any] = {"tvm": {k: v for k, v in ran.call.as_dict().items() if v}, "payload": about}
        row["tvm load"] = ran.load.instructions
        for engine, other in files(case, folder).items():
            try:
                theirs = aarch64.infer(core, other, feeds, engine=engine, timeout=900)
                row[engine] = {k: v for k, v in theirs.call.as_dict().items() if v}
                ratio = ran.call.instructions / theirs.call.instructions
                row[f"tvm / {engine}"] = round(ratio, 3)
            except Error as error:
                row[engine] = {"refused": f"{error.what}: {error.why}"[:300]}
        found[core_name] = row
        ratios = ", ".join(f"{key} {value}" for key, value in row.items() if key.startswith("tvm /"))
        print(f"{case} {core_name}: {ran.call.instructions / 1e6:.2f} M ({ratios})", flush=True)
    return found


def session(path: Path) -> Any:
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def executable(path: Path, engine: str) -> tuple[list[str], Any]:
    adapter: Any = engines.find(engine)
    loaded = adapter.load(StoredPayload(entry(engine), {"model": str(path)}), {"threads": 1})
    names = [tensor.name for tensor in loaded.outputs]
    return names, loaded


def same(case: str, folder: Path) -> dict[str, Any]:
    feeds = arm_files.single(case, INPUTS)
    reference = session(files(case, folder)["onnxruntime"])
    wanted = [dict(zip([o.name for o in reference.get_outputs()], reference.run(None, feed), strict=True))
              for feed in feeds]  # fmt: skip
    here, _ = compiled(case, "host", folder)
    names, loaded = executable(here, "tvm")
    answers = {"this machine": [dict(zip(names, loaded.run(names, feed), strict=True)) for feed in feeds]}
    path, _ = compiled(case, BOARDS["cortex-a53"], folder)
    ran = aarch64.infer(
        aarch64.core("cortex-a53"), path, feeds, engine="edgec", entry=entry("tvm"), paths=[RUNTIME], wheels=(),
        timeout=1800,
    )  # fmt: skip
    answers["cortex-a53"] = list(ran.answers)
    found: dict[str, Any] = {"inputs": len(feeds)}
    for where, given in answers.items():
        found[where] = {"largest difference": apart(given, wanted), "least sqnr dB": round(noise(given, wanted), 1)}
    print(case, found, flush=True)
    return found


def apart(given: Any, wanted: Any) -> float:
    """The largest difference of any value."""
    return max(
        float(np.max(np.abs(np.subtract(answer[name], reference[name], dtype=np.float64)), initial=0))
        for answer, reference in zip(given, wanted, strict=True)
        for name in reference
    )


def noise(given: Any, wanted: Any) -> float:
    """The least signal to noise of any output of any input, in dB."""
    least = 999.0
    for answer, reference in zip(given, wanted, strict=True):
        for name in reference:
            signal = np.asarray(reference[name], np.float64)
            error = float(np.sum((signal - answer[name]) ** 2))
            if error:
                least = min(least, 10 * float(np.log10(np.sum(signal**2) / error)))
    return least


def timed(case: str, folder: Path) -> dict[str, Any]:
    feed = arm_files.single(case, 1)[0]
    path, about = compiled(case, "host", folder)
    others = files(case, folder)
    reference = session(others["onnxruntime"])
    calls: dict[str, Any] = {"onnxruntime": lambda: reference.run(None, feed)}
    for engine, file in {"tvm": path, **{k: v for k, v in others.items() if k == "litert"}}.items():
        names, loaded = executable(file, engine)
        calls[engine] = lambda names=names, loaded=loaded: loaded.run(names, feed)
    times: dict[str, list[float]] = {name: [] for name in calls}
    numbers = {}
    for name, call in calls.items():
        call()
        begin = time.process_time()
        for _ in range(3):
            call()
        numbers[name] = max(1, int(TURN / max((time.process_time() - begin) / 3, 1e-6)))
    for turn in range(ROUNDS):
        for name in sorted(calls, reverse=bool(turn % 2)):
            begin = time.process_time()
            for _ in range(numbers[name]):
                calls[name]()
            times[name].append((time.process_time() - begin) / numbers[name])
    row: dict[str, Any] = {"onnxruntime_us": round(1e6 * float(np.median(times["onnxruntime"])), 1), "payload": about}
    for name in calls:
        if name != "tvm":
            row[f"tvm / {name}"] = record.ratio(times["tvm"], times[name])
    print(case, {k: v["median"] for k, v in row.items() if k.startswith("tvm")}, row["onnxruntime_us"], flush=True)
    return row


PARTS = {"count": count, "same": same, "time": timed}


def main(arguments: list[str]) -> None:
    """Measure what was asked for; parts and cases that were not keep their last figures."""
    path = record.RESULTS / "tvm_payload.json"
    figures: dict[str, Any] = json.loads(path.read_text())["figures"] if path.is_file() else {}
    for part in [a for a in arguments if a in PARTS] or PARTS:
        for case in [a for a in arguments if a in CASES] or CASES:
            with tempfile.TemporaryDirectory() as name:
                figures.setdefault(part, {})[case] = PARTS[part](case, Path(name))
            record.save(
                "tvm_payload", figures, compiler={p: version(p) for p in ("apache-tvm", "ziglang", "ai-edge-litert")},
                unit="aarch64 instructions an inference (count); CPU time of ours over theirs, one thread (time)",
            )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
