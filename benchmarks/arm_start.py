"""Starting an app and calling a tiny model on an emulated Cortex-A76: parts `start` and `call` of benchmarks/arm.py."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import arm_files
from edgec_runtime.trust.store import load_trusted
from edgec_toolchains import aarch64

GUEST = Path(__file__).with_name("arm_guest.py")
RUNTIME = Path(__file__).parents[1] / "runtime"
ORT = aarch64.inference.WHEELS["onnxruntime"]
LITERT = aarch64.inference.WHEELS["litert"]
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
            ("edgec_runtime, into memoryviews", "into", "tiny", ("ai-edge-litert",)),
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
        view = memoryview(x)
        into = {"y": memoryview(bytearray(16)).cast("f", (1, 4))}
        ways: dict[str, Any] = {
            "memoryviews": lambda: model.run({"x": view}),
            "into memoryviews": lambda: model.run({"x": view}, out=into),
            "numpy arrays": lambda: model.run({"x": x}),
            "the C call": lambda: function(*arguments),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(60):
            for name, way in ways.items():
                way()
                begin = time.process_time()
                for _ in range(2000):
                    way()
                taken[name].append((time.process_time() - begin) / 2000 * 1e6)
    medians = {name: float(np.median(values)) for name, values in taken.items()}
    over = {
        f"{name}, over the C call": float(np.median(np.subtract(values, taken["the C call"])))
        for name, values in taken.items()
        if name != "the C call"
    }
    return {name: round(value, 2) for name, value in (medians | over).items()}
