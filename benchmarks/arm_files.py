"""The files that benchmarks/arm.py measures: the zoo's models for both engines, and a bundle with a LiteRT payload."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import zoo


@dataclass(frozen=True)
class Case:
    """A model: its files by (precision, engine), why one is not there, its evaluation inputs one by one."""

    name: str
    files: Mapping[tuple[str, str], Path]
    missing: Mapping[str, str]
    feeds: tuple[dict[str, Any], ...]


def case(name: str, folder: Path, inputs: int) -> Case:
    """Quantize a zoo model as `edgec quantize --effort plain` does, and write both forms for both engines."""
    import onnx_ir as ir

    from edgec import data, frontends, passes, quantize
    from edgec_targets.emitters.litert.conversion import convert

    where = zoo.folder(name)
    model = frontends.load(where / "model.onnx").model
    given = [v for v in model.graph.inputs if v.name not in model.graph.initializers]
    calibration = data.load_calibration(f"{where}/eval.py:feeds", given).select(0, None, 8)
    passes.run(model)
    int8 = quantize.quantize_with_data(model, calibration, effort="plain", arch="").model
    forms = {"float32": model, "int8": int8, "integers": integers(int8)}
    files, missing = {}, {}
    for precision, form in forms.items():
        path = folder / f"{name}-{precision}.onnx"
        path.write_bytes(frontends.save_bytes(form))
        files[precision, "onnxruntime"] = path
        written = convert(ir.serde.deserialize_model(ir.serde.serialize_model(form)))
        if written.data is None:
            missing[f"{precision} litert"] = "; ".join(f"{p.node}: {p.why}" for p in written.problems)[:300]
            continue
        path = folder / f"{name}-{precision}.tflite"
        path.write_bytes(written.data)
        files[precision, "litert"] = path
    return Case(name, files, missing, tuple(single(name, inputs)))


def integers(model: Any) -> Any:
    """The part of a QDQ model before its first operator in floating point: its outputs are dequantized integers."""
    import onnx_ir as ir
    from onnx.utils import Extractor

    proto = ir.serde.serialize_model(model)
    behind = [node for node in proto.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    floating = float_operators(proto)
    made = {name for node in behind if node.op_type == "DequantizeLinear" for name in node.output}
    weights = {init.name for init in proto.graph.initializer}
    constant = {n.output[0] for n in behind if n.op_type == "DequantizeLinear" and n.input[0] in weights}
    ends = [name for node in floating for name in node.input if name in made - constant]
    given = [v.name for v in proto.graph.input if v.name not in weights]
    if not ends:
        return model
    known = {value.name for value in (*proto.graph.value_info, *proto.graph.output)}
    import onnx

    if not set(ends) <= known:
        proto = onnx.shape_inference.infer_shapes(proto)
    return ir.serde.deserialize_model(Extractor(proto).extract_model(given, list(dict.fromkeys(ends))))


def float_operators(proto: Any) -> list[Any]:
    """The nodes of a QDQ model that don't stand between DequantizeLinear and QuantizeLinear."""
    graph = proto.graph
    light = {"Relu", "Clip", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"}
    made_by = {name: node for node in graph.node for name in node.output}
    users: dict[str, list[Any]] = {name: [] for name in made_by}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def comes(name: str) -> bool:
        node = made_by.get(name)
        if node is None:
            return all(name != given.name for given in graph.input)
        return node.op_type == "DequantizeLinear" or (node.op_type in light and all(map(comes, node.input)))

    def goes(name: str) -> bool:
        return bool(users.get(name)) and all(
            user.op_type == "QuantizeLinear" or (user.op_type in light and all(map(goes, user.output)))
            for user in users[name]
        )

    return [
        node
        for node in graph.node
        if node.op_type not in {*light, "QuantizeLinear", "DequantizeLinear"}
        and not (all(map(comes, node.input)) and all(map(goes, node.output)))
    ]


def single(name: str, count: int) -> list[dict[str, Any]]:
    """The first `count` evaluation inputs, each of batch one."""
    found: list[dict[str, Any]] = []
    for feed in zoo.module(name).feeds("eval"):
        rows = max(np.shape(value)[0] if np.ndim(value) else 1 for value in feed.values())
        batched = {key for key, value in feed.items() if np.ndim(value) and np.shape(value)[0] == rows}
        for row in range(rows):
            found.append({k: np.ascontiguousarray(v[row : row + 1]) if k in batched else v for k, v in feed.items()})
            if len(found) == count:
                return found
    return found


def tiny(folder: Path) -> tuple[Path, Path]:
    """y = relu(x) of float32[1, 4], for LiteRT and for ONNX Runtime."""
    import onnx_ir as ir
    from onnx import helper

    from edgec_targets.emitters.litert.conversion import convert

    info = [helper.make_tensor_value_info(name, 1, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx, tflite = folder / "relu.onnx", folder / "relu.tflite"
    onnx.write_bytes(model.SerializeToString())
    tflite.write_bytes(convert(ir.serde.deserialize_model(model)).data or b"")
    return tflite, onnx


def bundle(
    tflite: Path, folder: Path, name: str, tensors: Mapping[str, Any], payloads: Sequence[Mapping[str, Any]] = ({},)
) -> Path:
    """A signed bundle whose payloads are this LiteRT file, with these changes; its key is trusted in `folder`/root."""
    os.environ["EDGEC_CONFIG"], os.environ["EDGEC_ROOT"] = str(folder / "config"), str(folder / "root")
    from edgec.bundle import keys, writer

    key = keys.development_key()
    member = "payloads/litert/model.tflite"
    manifest = {
        "format": 1, "app": {"name": name, "version": "1.0.0", "sequence": 1}, **tensors,
        "preprocessing": [], "postprocessing": [],
        "payloads": [{
            "id": "litert", "engine": "litert", "engine_version": ">=2.3,<3",
            "proven_with": {"package": "ai-edge-litert", "version": "2.3.0"}, "files": {"model": member},
            "board": "rpi5", "arch": "aarch64", "isa": ["asimd"], "portable": True, "native_code": False,
            "precision": "float32", "opset": 17, "memory": None, "options": {"threads": 1}, "accuracy": None,
            "golden": None, **changes,
        } for changes in payloads],
        "golden": {"kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": []},
        "recipe": None, "report": None, "sbom": None, "compiled_for": ["rpi5"], "checked_by": [], "run_on": [],
    }  # fmt: skip
    path = folder / f"{name}.edge"
    writer.write(path, manifest, {member: tflite.read_bytes()}, [key])
    return path
