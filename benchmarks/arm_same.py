"""Are int8 answers the same everywhere? Part `same` of benchmarks/arm.py.

Of what a compiled bundle ships for boards (`arm_payloads.bundle`), over the first evaluation inputs:

integers  the Q/DQ model that onnxruntime gets, cut before its first operator in floating point: by onnxruntime and by
          LiteRT, on each emulated core (each its own board's file) and on this machine. They can be equal to the bit
shipped   LiteRT's own file, whole: what its operators in floating point do at the end differs by rounding at most

Answers are kept by content under build/bench, since an emulated inference takes seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from benchmarks import arm_files, arm_payloads, zoo
from benchmarks.arm_start import RUNTIME
from edgec_targets import registry
from edgec_toolchains import aarch64

HERE = "x86-64"
FEW = 8  # inputs on which the first difference is looked for
INPUTS = {"minilm_sts": 4, "silero_vad": 2}  # 30 elsewhere; MiniLM takes minutes an input, Silero's are of 32 pieces
Answers = Sequence[Mapping[str, Any]]


def same(case: str) -> dict[str, Any]:
    """SHA-256 (12 digits) of the answers by engine and machine, whether they are the same, and how far apart if not."""
    feeds = _feeds(case)
    shipped = _shipped(case)
    model = onnx.load_from_string(shipped["cortex-a76", "onnxruntime"].read_bytes())
    found: dict[str, Any] = {
        "inputs": len(feeds),
        "in floating point": sorted({node.op_type for node in arm_files.float_operators(model)}),
    }
    cut = ir.to_proto(arm_files.integers(ir.from_proto(model)))
    paths = {(core, "onnxruntime"): _kept(cut.SerializeToString()) for core in arm_payloads.BOARDS}
    paths |= {(core, "litert"): _converted(cut, board) for core, board in arm_payloads.BOARDS.items()}
    every: set[str] = set()
    given: dict[str, Answers] = {}
    for engine in ("onnxruntime", "litert"):
        row, given[engine] = _everywhere({core: paths[core, engine] for core in arm_payloads.BOARDS}, feeds, engine)
        found[engine] = row
        every |= set(row["sha256"].values())
    found["all the same"] = len(every) == 1
    if not found["all the same"]:
        found["onnxruntime to litert, largest difference"] = apart(given["onnxruntime"], given["litert"])
        found["first apart"] = _first_apart(cut, feeds)
    if ("cortex-a76", "litert") in shipped:
        row, _ = _everywhere({core: shipped[core, "litert"] for core in arm_payloads.BOARDS}, feeds, "litert")
        found["litert, shipped"] = row
    print(f"  {case} {json.dumps(found)}", flush=True)
    return found


def _first_apart(cut: onnx.ModelProto, feeds: Sequence[Any]) -> dict[str, str]:
    """Which operator the first differing integers come from, with all integers of the model as outputs."""
    every = onnx.shape_inference.infer_shapes(cut)
    made_by = {name: node for node in every.graph.node for name in node.output}
    ends = [node.output[0] for node in every.graph.node if node.op_type == "QuantizeLinear"]
    types = {node.output[0]: _type(every, node) for node in every.graph.node if node.op_type == "QuantizeLinear"}
    del every.graph.output[:]
    every.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in ends)
    for value in every.graph.output:
        value.type.tensor_type.elem_type = types[value.name]
    every = onnx.shape_inference.infer_shapes(every)
    onnxruntime_file = _kept(every.SerializeToString())
    few = feeds[:FEW]
    answers = {
        "onnxruntime here": on_host(onnxruntime_file, few, "onnxruntime"),
        "onnxruntime": _answers("cortex-a76", onnxruntime_file, few, "onnxruntime"),
        "litert": _answers("cortex-a76", _converted(every, arm_payloads.BOARDS["cortex-a76"]), few, "litert"),
    }

    def first(one: Answers, other: Answers) -> str:
        for name in ends:
            if any(not np.array_equal(a[name], b[name]) for a, b in zip(one, other, strict=True)):
                source = made_by[name].input[0]
                while (node := made_by.get(source)) is not None and node.op_type in ("Relu", "Clip", "Reshape"):
                    source = node.input[0]
                return f"{node.op_type} {node.name}" if node is not None else source
        return f"none on {len(few)} inputs"

    return {
        "onnxruntime, x86-64 to ARM": first(answers["onnxruntime here"], answers["onnxruntime"]),
        "onnxruntime to litert, on ARM": first(answers["onnxruntime"], answers["litert"]),
    }


def _type(model: onnx.ModelProto, node: onnx.NodeProto) -> int:
    """The element type of a QuantizeLinear's result: its zero point's, else uint8."""
    known = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return known.get(node.input[2], onnx.TensorProto.UINT8) if len(node.input) > 2 else onnx.TensorProto.UINT8


def _feeds(case: str) -> list[dict[str, Any]]:
    """The first evaluation inputs, of the size that the bundle was compiled for: one by one, or in sequences."""
    count = INPUTS.get(case, 30)
    if all(value.shape[:1] in ((), (1,)) for value in zoo.first_feed(case).values()):
        return arm_files.single(case, count)
    return [dict(feed) for feed, _ in zip(zoo.module(case).feeds("eval"), range(count), strict=False)]


def _everywhere(paths: Mapping[str, Path], feeds: Sequence[Any], engine: str) -> tuple[dict[str, Any], Answers]:
    """Digests on each core and here (by the file of the Cortex-A76's board), and the answers on the Cortex-A76."""
    answers: dict[str, Answers] = {HERE: on_host(paths["cortex-a76"], feeds, engine)}
    for core_name, path in paths.items():
        answers[core_name] = _answers(core_name, path, feeds, engine)
    digests = {where: digest(given) for where, given in answers.items()}
    row: dict[str, Any] = {"sha256": digests, "the same": len(set(digests.values())) == 1}
    if not row["the same"]:
        row["largest difference"] = max(apart(given, answers["cortex-a76"]) for given in answers.values())
    return row, answers["cortex-a76"]


def _shipped(case: str) -> dict[tuple[str, str], Path]:
    """(core, engine) -> the model's file that the core's board gets."""
    path = arm_payloads.bundle(case, "int8")
    found: dict[tuple[str, str], Path] = {}
    for core_name in arm_payloads.BOARDS:
        for entry, files in arm_payloads.payloads(path, aarch64.core(core_name).model):
            found.setdefault((core_name, entry["engine"]), files["model"])
    return found


def _converted(model: onnx.ModelProto, board: str) -> Path:
    from edgec_targets.emitters.litert import EMITTER

    built = EMITTER.emit(ir.from_proto(model), registry.board(board), precision="int8")
    return _kept(built.files["model"][1])


def _kept(content: bytes) -> Path:
    return arm_payloads.written({"model": content})["model"]


def _answers(core_name: str, path: Path, feeds: Sequence[Any], engine: str) -> Answers:
    """On an emulated core, through the runtime's adapter; what was asked before is not asked again."""
    core = aarch64.core(core_name)
    said = [core_name, core.bed.qemu, sorted(core.bed.versions["wheels"]), engine, path.name]
    said += [hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() for feed in feeds for v in feed.values()]
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:24]
    kept = arm_payloads.CACHE / "answers" / f"{key}.npz"
    if not kept.exists():
        ran = inference(core, path, feeds, engine, "edgec").answers
        kept.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"{n}/{name}": value for n, answer in enumerate(ran) for name, value in answer.items()}
        np.savez(kept, **arrays)  # type: ignore[arg-type]
    with np.load(kept) as stored:
        made: list[dict[str, Any]] = [{} for _ in feeds]
        for label in stored.files:
            number, _, name = label.partition("/")
            made[int(number)][name] = stored[label]
    return made


def inference(core: aarch64.Core, path: Path, feeds: Any, engine: str, way: str) -> aarch64.Inference:
    """A model on an emulated core: by the engine's package, or ("edgec") by the runtime's adapter."""
    entry = {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}} if way == "edgec" else None
    wheels = ({"litert": "ai-edge-litert"}.get(engine, engine),) if entry else None
    named = engine if way == "package" else "edgec"
    return aarch64.infer(core, path, feeds, engine=named, entry=entry, paths=[RUNTIME], wheels=wheels, timeout=3000)


def on_host(path: Path, feeds: Sequence[Any], engine: str) -> Answers:
    """On this machine, by the runtime's adapter."""
    from edgec_runtime import engines
    from edgec_runtime.payload import StoredPayload

    entry = {"id": "p", "engine": engine, "engine_version": ">=0", "files": {"model": "m"}}
    adapter: Any = engines.find(engine)
    executable = adapter.load(StoredPayload(entry, {"model": str(path)}), {"threads": 1})
    names = [tensor.name for tensor in executable.outputs]
    return tuple(dict(zip(names, executable.run(names, feed), strict=True)) for feed in feeds)


def digest(answers: Answers) -> str:
    """Of all answers, 12 hex digits."""
    hashed = hashlib.sha256()
    for answer in answers:
        for name in sorted(answer):
            hashed.update(np.ascontiguousarray(answer[name]).tobytes())
    return hashed.hexdigest()[:12]


def apart(given: Answers, reference: Answers) -> float:
    """The largest difference of an element."""
    return max(
        float(np.max(np.abs(np.subtract(a[name], b[name], dtype=np.float64)), initial=0))
        for a, b in zip(given, reference, strict=True)
        for name in a
    )
