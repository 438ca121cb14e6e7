"""Instructions on emulated ARM cores: starting an app, a call, an inference; are int8 answers the same everywhere?

    python -m benchmarks.arm [start | call | models | same] [CASE …]      (nothing: all)

All of one run, side by side: ours beside the Python packages onnxruntime and ai-edge-litert on the same files. The
counts are exact to the digit or nearly so, need no quiet machine, and are no time. They go to results/arm.json, each
part as it is there.

start   importing the runtime and loading an installed app, from Python's own start on, with bytecode cached
call    one call of a model that does next to nothing
models  one inference, by class of instruction, on each core
same    int8 answers on each core and on this machine, over the first evaluation inputs, up to the first operator in
        floating point
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arm_files, record, zoo
from edgec.errors import Error
from edgec_runtime.trust.store import load_trusted
from edgec_toolchains import aarch64

GUEST = Path(__file__).with_name("arm_guest.py")
RUNTIME = Path(__file__).parents[1] / "runtime"
CORES = ("cortex-a53", "cortex-a76", "i8mm")
ORT = aarch64.inference.WHEELS["onnxruntime"]
LITERT = aarch64.inference.WHEELS["litert"]
INPUTS = {"minilm_sts": 4, "ultraface": 30, "silero_vad": 30}  # 30 elsewhere; MiniLM takes minutes an input
TOO_LONG = ("minilm_sts",)  # in floating point, which QEMU emulates in software: an hour
FLOAT_INPUTS = 1  # floating point is emulated in software: what an input takes says little more than one
TENSORS = {side: [{"name": name, "dtype": "float32", "shape": [1, 4], "layout": None}]
           for side, name in (("inputs", "x"), ("outputs", "y"))}  # fmt: skip


def start() -> dict[str, Any]:
    """Millions of instructions over bare Python, and bytes of memory over it, for a tiny model on a Cortex-A76."""
    core = aarch64.core("cortex-a76")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tflite, onnx = arm_files.tiny(folder)
        edge = arm_files.bundle(tflite, folder, "tiny", TENSORS)
        environment = {"EDGEC_ROOT": str(folder / "root")}
        runtime = copied(folder)
        install = ["-m", "edgec_runtime", "install", str(edge)]
        core.python(install, wheels=["ai-edge-litert"], paths=[runtime], env=environment)
        library = core.bed.wheel("ai-edge-litert") / "ai_edge_litert" / "libLiteRt.so"
        trust = folder / "root" / "trust"
        (key,) = (raw.hex() for raw in load_trusted(str(trust)).values())

        def measured(arguments: list[Any], wheels: tuple[str, ...], *, ours: bool = True) -> dict[str, Any]:
            paths = [runtime] if ours else []
            words = [str(GUEST), *map(str, arguments)]
            for _ in range(2):  # the first writes the bytecode
                ran = core.python(words, wheels=wheels, paths=paths, env=environment)
            found: dict[str, Any] = {
                "instructions": ran.region(2).instructions,
                "memory": int(ran.stdout.split()[0]),
            }
            return found

        figures = {
            "installed app": measured(["installed", "tiny"], ("ai-edge-litert",)),
            "bundle, verified": measured(["bundle", edge, trust], ("ai-edge-litert",)),
            "of that, its signature": measured(["signature", key, edge], ()),
            "of that, hashing": measured(["hashing", edge], ()),
            "LiteRT's C interface alone": measured(["floor", library, tflite], ("ai-edge-litert",), ours=False),
            "package ai-edge-litert": measured(["litert", tflite], LITERT, ours=False),
            "package onnxruntime": measured(["onnxruntime", onnx], ORT, ours=False),
        }
        sources = sum(path.stat().st_size for path in (runtime / "edgec_runtime").rglob("*.py"))
        cached = sum(path.stat().st_size for path in (runtime / "edgec_runtime").rglob("*.pyc"))
        figures["installed size, bytes"] = {
            "runtime": sources, "its bytecode so far": cached, "libLiteRt.so": library.stat().st_size,
            "together": sources + cached + library.stat().st_size,
        }  # fmt: skip
    return figures


def copied(folder: Path) -> Path:
    """The runtime as it is installed: its modules alone, with room for its bytecode."""
    import shutil

    target = folder / "site"
    shutil.copytree(RUNTIME / "edgec_runtime", target / "edgec_runtime", ignore=shutil.ignore_patterns("__pycache__"))
    return target


def call() -> dict[str, Any]:
    """Instructions of a call of a tiny model on a Cortex-A76; and on this machine, CPU time over the C call's."""
    core = aarch64.core("cortex-a76")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tflite, onnx = arm_files.tiny(folder)
        edge = arm_files.bundle(tflite, folder, "tiny", TENSORS)
        environment = {"EDGEC_ROOT": str(folder / "root")}
        core.python(["-m", "edgec_runtime", "install", str(edge)], wheels=["ai-edge-litert"], paths=[RUNTIME],
                    env=environment)  # fmt: skip
        for label, kind, argument, wheels in (
            ("edgec_runtime, memoryviews", "views", "tiny", ("ai-edge-litert",)),
            ("edgec_runtime, numpy arrays", "numpy", "tiny", ("ai-edge-litert", "numpy")),
            ("the C call by ctypes alone", "raw", "tiny", ("ai-edge-litert",)),
            ("package ai-edge-litert", "litert", tflite, LITERT),
            ("package onnxruntime", "onnxruntime", onnx, ORT),
        ):
            ran = core.python(
                [str(GUEST), "calls", kind, str(argument)], wheels=wheels, paths=[RUNTIME], env=environment
            )
            found[label] = round((ran.region(3).instructions - ran.region(7).instructions) / 100)
        found["this machine"] = here(edge, folder / "root" / "trust")
    return found


def here(edge: Path, trust: Path) -> dict[str, float]:
    """Microseconds of CPU a call, interleaved, medians: through the runtime, and the C call alone."""
    import edgec_runtime as rt

    with rt.load(edge, trust=str(trust)) as model:
        x = np.array([[1, -2, 3, -4]], np.float32)
        executable: Any = model._executable
        function, arguments = executable.call, executable.arguments
        ways = {
            "memoryviews": (model.run, ({"x": memoryview(x)},)),
            "numpy arrays": (model.run, ({"x": x},)),
            "the C call": (function, arguments),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(60):
            for name, (way, given) in ways.items():
                way(*given)
                begin = time.process_time()
                for _ in range(2000):
                    way(*given)
                taken[name].append((time.process_time() - begin) / 2000 * 1e6)
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    over = {
        f"{name}, over the C call": float(np.median(np.subtract(values, taken["the C call"])))
        for name, values in taken.items()
        if name != "the C call"
    }
    return {name: round(value, 2) for name, value in (medians | over).items()}


def models(case: arm_files.Case) -> dict[str, Any]:
    """Instructions of an inference: {core: {precision: {engine: counts}}}, one thread, batch of one."""
    found: dict[str, Any] = {}
    for core_name in CORES:
        core = aarch64.core(core_name)
        for (precision, engine), path in case.files.items():
            if precision == "integers" or (precision == "float32" and case.name in TOO_LONG):
                continue
            for way in ("package", "edgec"):
                if way == "edgec" and engine == "onnxruntime":
                    continue  # the same library on the same file
                feeds = case.feeds[:1] * (3 if precision == "int8" and case.name != "minilm_sts" else FLOAT_INPUTS)
                try:
                    ran = inference(core, path, feeds, engine, way)
                except Error as error:
                    counts: Any = {"refused": f"{error.what}: {error.why}"[:300]}
                else:
                    counts = {k: v for k, v in ran.call.as_dict().items() if v}
                found.setdefault(core_name, {}).setdefault(precision, {})[f"{engine} {way}"] = counts
                print(f"  {core_name} {precision} {engine} {way}: {counts.get('instructions', counts)}", flush=True)
    return found


def inference(core: aarch64.Core, path: Path, feeds: Any, engine: str, way: str) -> aarch64.Inference:
    entry = {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}} if way == "edgec" else None
    wheels = ({"litert": "ai-edge-litert"}.get(engine, engine),) if entry else None
    named = engine if way == "package" else "edgec"
    return aarch64.infer(core, path, feeds, engine=named, entry=entry, paths=[RUNTIME], wheels=wheels, timeout=3000)


def same(case: arm_files.Case) -> dict[str, Any]:
    """SHA-256 (12 digits) of int8 answers on each core and here, by engine, over the case's inputs.

    Of the model's integers: cut before its first operator in floating point, which are named.
    """
    import onnx

    nodes = arm_files.float_operators(onnx.load(case.files["int8", "onnxruntime"]))
    found: dict[str, Any] = {"inputs": len(case.feeds), "in floating point": sorted({node.op_type for node in nodes})}
    on_a76: dict[str, Any] = {}
    every = set()
    for engine in ("onnxruntime", "litert"):
        path = case.files.get(("integers", engine))
        if path is None:
            continue
        answers = {"x86-64": on_host(path, case.feeds, engine)}
        for core_name in CORES:
            answers[core_name] = inference(aarch64.core(core_name), path, case.feeds, engine, "edgec").answers
        on_a76[engine] = answers["cortex-a76"]
        digests = {where: digest(given) for where, given in answers.items()}
        every |= set(digests.values())
        found[engine] = {"sha256": digests, "the same": len(set(digests.values())) == 1}
        print(f"  {engine}: {found[engine]}", flush=True)
    found["all the same"] = len(every) == 1
    if len(on_a76) == 2 and not found["all the same"]:
        found["onnxruntime to litert, largest difference"] = apart(on_a76["onnxruntime"], on_a76["litert"])
    return found


def on_host(path: Path, feeds: Any, engine: str) -> tuple[dict[str, Any], ...]:
    from edgec_runtime import engines
    from edgec_runtime.payload import StoredPayload

    entry = {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}}
    adapter: Any = engines.find(engine)
    executable = adapter.load(StoredPayload(entry, {"model": str(path)}), {"threads": 1})
    names = [tensor.name for tensor in executable.outputs]
    return tuple(dict(zip(names, executable.run(names, feed), strict=True)) for feed in feeds)


def digest(answers: Any) -> str:
    hashed = hashlib.sha256()
    for answer in answers:
        for name in sorted(answer):
            hashed.update(np.ascontiguousarray(answer[name]).tobytes())
    return hashed.hexdigest()[:12]


def apart(given: Any, reference: Any) -> float:
    return max(
        float(np.max(np.abs(np.subtract(a[name], b[name], dtype=np.float64)), initial=0))
        for a, b in zip(given, reference, strict=True)
        for name in a
    )


def main(arguments: list[str]) -> None:
    """Measure what was asked for; parts that were not keep their last figures."""
    parts = [a for a in arguments if a in ("start", "call", "models", "same")] or ["start", "call", "models", "same"]
    cases = [a for a in arguments if a in zoo.CASES] or list(zoo.CASES)
    os.environ.setdefault(aarch64.VARIABLE, str(Path(__file__).parents[1] / "build" / "aarch64"))
    bed = aarch64.prepare(progress=print)
    path = record.RESULTS / "arm.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    for part, measure in (("start", start), ("call", call)):
        if part in parts:
            figures[part] = measure()
            print(json.dumps(figures[part], indent=1), flush=True)
    with tempfile.TemporaryDirectory() as name:
        for case_name in cases if {"models", "same"} & set(parts) else ():
            case = arm_files.case(case_name, Path(name), INPUTS.get(case_name, 30))
            print(case_name, dict(case.missing), flush=True)
            for part, of in (("models", models), ("same", same)):
                if part in parts:
                    figures.setdefault(part, {})[case_name] = of(case)
                    if case.missing:
                        figures[part][case_name]["not written"] = dict(case.missing)
                    save(figures, bed)
    save(figures, bed)


def save(figures: dict[str, Any], bed: aarch64.Bed) -> None:
    record.save("arm", figures, emulator=f"qemu-user {bed.qemu}", wheels=bed.versions["wheels"])


if __name__ == "__main__":
    main(sys.argv[1:])
