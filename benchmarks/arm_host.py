"""CPU time on this machine, one thread, in turn in one process: part `host` of benchmarks/arm.py.

What `edgec compile -t host` ships beside onnxruntime's best: the model as given, and as onnxruntime's own quantizer and
edgec make it in integers. And edgec's int8 payload of LiteRT beside its int8 file in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks import arm_payloads, float_payloads, record, zoo
from edgec.errors import Error
from edgec_runtime import engines, machine, select
from edgec_runtime.payload import StoredPayload


def host(case: str) -> dict[str, Any]:
    """What ships for this machine, and ratios of CPU time, round by round, to the best of onnxruntime."""
    feeds = zoo.first_feed(case)
    runs: dict[str, Any] = {}
    folder = zoo.folder(case)
    runs["onnxruntime float32"] = by_package((folder / "model.onnx").read_bytes())
    quantized = arm_payloads.quantized_by_onnxruntime(case, "u8s8")
    if not isinstance(quantized, str):
        runs["onnxruntime int8, its quantizer's"] = by_package(quantized.read_bytes())
    ships, run = first(case, "auto")
    runs["edgec"] = run
    for entry, files in usable(arm_payloads.bundle(case, "int8", ["host"])):
        if entry["precision"] == "int8":
            content = files["model"].read_bytes()
            if entry["engine"] == "onnxruntime":
                runs["onnxruntime int8, edgec's"] = by_package(content)
            runs[f"edgec {entry['engine']} int8"] = by_adapter(entry, files)
    seconds = float_payloads.timed({name: named(run) for name, run in runs.items()}, feeds)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    rivals = [name for name in runs if name.startswith("onnxruntime ")]
    best = min(rivals, key=medians.__getitem__)
    found: dict[str, Any] = {
        "ships": ships,
        "ms": {name: round(1e3 * value, 4) for name, value in medians.items()},
        "best of onnxruntime": best,
        "over the best": record.ratio(seconds["edgec"], seconds[best]),
    }
    if "edgec litert int8" in seconds:
        int8 = min((name for name in rivals if "int8" in name), key=medians.__getitem__, default=None)
        if int8:
            found["litert int8 over onnxruntime int8"] = record.ratio(seconds["edgec litert int8"], seconds[int8])
    print(f"  {case} {found}", flush=True)
    return found


def named(run: Any) -> float_payloads.Run:
    return lambda feeds: run(feeds)


def first(case: str, precision: str) -> tuple[str, Any]:
    """What a load of the bundle for this machine takes, and how it is run."""
    for entry, files in usable(arm_payloads.bundle(case, precision, ["host"])):
        try:
            return f"{entry['engine']} {entry['precision']}", by_adapter(entry, files)
        except Error as error:
            print(f"  {case} {entry['id']}: {error.what}: {error.why}")
    raise RuntimeError(f"no payload of {case} runs here")


def usable(path: Any) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    from edgec_runtime.bundle import reader

    here, found = machine.this(), []
    with reader.open(path, allow_unsigned=True) as opened:
        for entry in select.order(opened.manifest["payloads"], here):
            if not select.obstacle(entry, here, trusted=True):
                contents = {role: bytes(opened.read(member)) for role, member in entry["files"].items()}
                found.append((dict(entry), arm_payloads.written(contents)))
    return found


def by_adapter(entry: Mapping[str, Any], files: Mapping[str, Any]) -> Any:
    """As the runtime runs it, one thread."""
    adapter: Any = engines.find(entry["engine"])
    options = {**entry["options"], "threads": 1}
    executable = adapter.load(StoredPayload(entry, {role: str(path) for role, path in files.items()}), options)
    names = [tensor.name for tensor in executable.outputs]
    return lambda feeds: executable.run(names, feeds)


def by_package(content: bytes) -> Any:
    session = float_payloads.session(content)
    return lambda feeds: session.run(None, feeds)
