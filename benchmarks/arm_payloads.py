"""Instructions of an inference of what edgec ships for boards, beside the packages: parts `models` and `floats`.

What takes long is kept by content under build/bench: compiled bundles by the model, the request and the compiler's
sources; counts, which are the same from run to run, by the files, the engine's version and the runtime's sources.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import float_payloads, zoo
from benchmarks.arm_start import LITERT, ORT, RUNTIME
from edgec.errors import Error
from edgec_runtime import select
from edgec_runtime.machine import Machine
from edgec_targets import registry
from edgec_toolchains import aarch64

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "bench"
BOARDS = {"cortex-a53": "rpi-zero2w", "cortex-a76": "rpi5", "i8mm": "generic-armv8.6-i8mm"}
QUANTIZER = {"cortex-a53": ("u8s8",), "cortex-a76": ("u8s8", "s8s8")}  # onnxruntime's own; s8s8 is never less on A53
FLOATS = ("dscnn_kws", "resnet8_cifar10", "ppocr_cls")  # floating point is emulated in software: minutes an inference
OTHERS = ("tvm", "ncnn")  # float engines beside onnxruntime and litert
PACKAGES = {"onnxruntime": ORT, "litert": LITERT}
WHEELS: dict[str, tuple[str, ...]] = {"litert": ("ai-edge-litert",), "tvm": ()}  # of an engine's own name elsewhere
CALLS = 3
DROP, SAMPLES = 0.01, 100  # a file that loses more than edgec's default budget is none to compare with


def models(case: str) -> dict[str, Any]:
    """{core: {"int8": {"chosen": engine, "ENGINE edgec | package": counts, …}}} of the bundle for the core's board."""
    feeds = [zoo.first_feed(case)] * CALLS
    found: dict[str, Any] = {}
    for core_name in BOARDS:
        core = aarch64.core(core_name)
        row: dict[str, Any] = {}
        for entry, files in payloads(bundle(case, "int8"), core.model):
            row.setdefault("chosen", entry["engine"])
            if core_name in QUANTIZER or row["chosen"] == entry["engine"]:
                both(row, core, entry["engine"], entry, files, feeds)
        for name in QUANTIZER.get(core_name, ()) if case != "minilm_sts" else ():
            path = quantized_by_onnxruntime(case, name)
            row[f"onnxruntime package, its quantizer's {name}"] = (
                {"refused": path}
                if isinstance(path, str)
                else counted(core, {"model": path}, feeds, "onnxruntime", None)
            )
        found[core_name] = {"int8": row}
        print(f"  {case} {core_name} {shown(row)}", flush=True)
    return found


def floats(case: str) -> dict[str, Any]:
    """The same in float32 on a Cortex-A53, by every engine that there is an emitter for."""
    core, feeds = aarch64.core("cortex-a53"), [zoo.first_feed(case)] * CALLS
    row: dict[str, Any] = {}
    for entry, files in payloads(bundle(case, "float32"), core.model):
        row.setdefault("chosen", entry["engine"])
        row[f"{entry['engine']} edgec"] = counted(core, files, feeds, entry["engine"], entry)
        if entry["engine"] == "onnxruntime":  # what the others' counts are held against
            row["onnxruntime package"] = counted(core, files, feeds, "onnxruntime", None)
    board = registry.board(BOARDS["cortex-a53"])
    board = replace(board, threads=1, engines={**board.engines, **dict.fromkeys(OTHERS, ">=0")})
    for engine in OTHERS:
        if f"{engine} edgec" in row:
            continue
        try:
            built = float_payloads.emitted(engine, float_payloads.float_model(case), board)
            files = written({role: content for role, (_, content) in built.files.items()})
            entry = {"id": engine, "engine": engine, "engine_version": built.engine_version,
                     "files": dict.fromkeys(files, "m")}  # fmt: skip
            row[f"{engine} edgec"] = counted(core, files, feeds, engine, entry)
        except (Error, ImportError, AttributeError, OSError) as error:
            row[f"{engine} edgec"] = {"refused": " ".join(str(error).split())[:300]}
    print(f"  {case} cortex-a53 float32 {shown(row)}", flush=True)
    return row


def both(
    row: dict[str, Any], core: aarch64.Core, engine: str, entry: Mapping[str, Any], files: Mapping[str, Path],
    feeds: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    """The counts of a payload through the runtime, where it is the first, and of the engine's package on its file."""
    if row["chosen"] == engine:
        row[f"{engine} edgec"] = counted(core, files, feeds, engine, entry)
    if engine in PACKAGES:
        row[f"{engine} package"] = counted(core, files, feeds, engine, None)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.get("instructions", "-") if isinstance(value, dict) else value for key, value in row.items()}


def payloads(path: Path, model: Any) -> list[tuple[dict[str, Any], dict[str, Path]]]:
    """What the runtime would take on a core, in its order, with the files of each."""
    from edgec_runtime.bundle import reader

    machine = Machine("aarch64", frozenset(model.features), None)
    found = []
    with reader.open(path, allow_unsigned=True) as opened:
        entries = [e for e in select.order(opened.manifest["payloads"], machine) if e["arch"] == "aarch64"]
        entries = [e for e in entries if not select.obstacle(e, machine, trusted=True)]
        for entry in select.distinct(entries):
            files = {role: bytes(opened.read(member)) for role, member in entry["files"].items()}
            found.append((dict(entry), written(files)))
    return found


def written(contents: Mapping[str, bytes]) -> dict[str, Path]:
    """Files by role, each named by its content."""
    found = {}
    for role, content in contents.items():
        path = CACHE / "files" / hashlib.sha256(content).hexdigest()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
        found[role] = path
    return found


def counted(
    core: aarch64.Core, files: Mapping[str, Path], feeds: Sequence[Mapping[str, Any]], engine: str,
    entry: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """Counts of one warm call: by the runtime's adapter where `entry` is a payload, else by the engine's package."""
    said = [core.model.name, core.bed.qemu, sorted(core.bed.versions["wheels"]), engine, bool(entry), len(feeds)]
    said += [[key, digest(path.read_bytes())] for key, path in sorted(files.items())]
    said += [[key, digest(np.ascontiguousarray(value).tobytes())] for key, value in sorted(feeds[0].items())]
    said += [sources([RUNTIME / "edgec_runtime" / "engines"])] if entry else []
    kept = CACHE / "counts" / f"{digest(json.dumps(said).encode())}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    try:
        ran = aarch64.infer(
            core, next(iter(files.values())), feeds, engine="edgec" if entry else engine, entry=entry,
            files=files if entry else None, paths=[RUNTIME] if entry else (),
            wheels=WHEELS.get(engine, (engine,)) if entry else None, timeout=3000,
        )  # fmt: skip
    except Error as error:
        return {"refused": f"{error.what}: {error.why}"[:300]}
    counts: dict[str, Any] = {name: number for name, number in ran.call.as_dict().items() if number}
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(counts))
    return counts


def bundle(case: str, precision: str, boards: Iterable[str] = tuple(BOARDS.values())) -> Path:
    """A case compiled for the boards as `edgec compile --effort plain` does it, for the shapes of its first input."""
    from edgec import data, frontends
    from edgec.compiler import compile

    folder, names = zoo.folder(case), ",".join(boards)
    shapes = {name: value.shape for name, value in zoo.first_feed(case).items()}
    said = [case, precision, names, str(shapes), digest((folder / "model.onnx").read_bytes()),
            sources([ROOT / "edgec", ROOT / "targets" / "edgec_targets"])]  # fmt: skip
    path = CACHE / "bundles" / f"{case}-{precision}-{digest(json.dumps(said).encode())}.edge"
    if not path.exists():
        home = CACHE / "home"
        os.environ["EDGEC_CONFIG"], os.environ["EDGEC_ROOT"] = str(home / "config"), str(home / "root")
        path.parent.mkdir(parents=True, exist_ok=True)
        model = frontends.load(folder / "model.onnx", shapes=shapes).model
        given = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
        calibration = None
        if precision != "float32":
            calibration = data.load_calibration(f"{folder}/eval.py:feeds", given).select(0, None, 8)
        compile(
            folder / "model.onnx", names, output=path, name=case, precision=precision, calib=calibration,
            shapes=shapes, effort="plain",
        )  # fmt: skip
    return path


def quantized_by_onnxruntime(case: str, kind: str) -> Path | str:
    """The case as onnxruntime's own quantizer makes it: QDQ, a scale per channel; or why it can't."""
    import onnxruntime.quantization as quantization

    folder = zoo.folder(case)
    said = [case, kind, digest((folder / "model.onnx").read_bytes()), quantization.__name__]
    path = CACHE / "onnxruntime" / f"{case}-{kind}-{digest(json.dumps(said).encode())}.onnx"
    verdict = path.with_suffix(".json")
    if verdict.exists():
        said_before = json.loads(verdict.read_text())
        return path if said_before == "" else str(said_before)
    path.parent.mkdir(parents=True, exist_ok=True)
    feeds = [feed for feed, _ in zip(zoo.module(case).feeds("calib"), range(16), strict=False)]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        left = iter(feeds)

        def get_next(self) -> Any:
            return next(self.left, None)

    kinds = quantization.QuantType
    try:
        quantization.quantize_static(
            str(folder / "model.onnx"), str(path), Reader(), quant_format=quantization.QuantFormat.QDQ,
            per_channel=True, activation_type=kinds.QUInt8 if kind == "u8s8" else kinds.QInt8, weight_type=kinds.QInt8,
        )  # fmt: skip
        (before, _), (after, n) = (accuracy(case, file) for file in (folder / "model.onnx", path))
        enough = after >= (1 - DROP) * before - 1 / n  # one sample is no difference
        why = "" if enough else f"its quantizer's {kind} loses too much: {after} for {before}"
    except Exception as error:  # whatever it raises: the file is then not there to be compared with
        why = f"its quantizer fails: {str(error)[:200]}"
    verdict.write_text(json.dumps(why))
    return why if why else path


def accuracy(case: str, path: Path) -> tuple[float, int]:
    """What the case's own evaluation says of a file in onnxruntime over its first samples, and of how many."""
    session = float_payloads.session(path.read_bytes())
    found = zoo.module(case).evaluate(lambda feeds: session.run(None, feeds), limit=SAMPLES)
    return float(found["value"]), int(found["n"])


def sources(folders: Iterable[Path]) -> str:
    """A digest of all that is written by hand in these folders."""
    hashed = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".toml", ".json", ".c", ".h") and "__pycache__" not in path.parts:
                hashed.update(str(path.relative_to(folder)).encode())
                hashed.update(path.read_bytes())
    return hashed.hexdigest()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:24]
