"""Bundles for boards: y = x · W compiled by edgec for a probed board, and versions of a bundle, good and bad."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from edgec.bundle import arrays, keys, writer
from edgec.compiler import compile
from edgec_runtime.bundle import reader

SIDE = 512  # of W: a megabyte of numbers that no delta shortens


def matrix(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """W."""
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE), np.float32) / np.float32(SIDE**0.5)


def feed() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """One input."""
    return {"x": np.random.default_rng(99).normal(size=(1, SIDE)).astype(np.float32)}


def compiled(
    path: Path, board: Path, seed: int, *, version: int, engine: str = "litert", name: str = "product"
) -> Path:
    """The bundle of `matrix(seed)`, signed by this user's development key."""
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, SIDE]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])], "product", info[:1], info[1:],
        [numpy_helper.from_array(matrix(seed), "W")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compile(
        model.SerializeToString(), str(board), output=path, name=name, precision="float32", golden="synthetic",
        engines=(engine,), version=f"{version}.0", sequence=version,
    )  # fmt: skip
    return path


def again(source: Path, path: Path, *, version: int, wrong: bool = False) -> Path:
    """The same app as a later version; `wrong`: its golden answers are not the model's, as after a bad conversion."""
    with reader.open(source, allow_unsigned=True) as bundle:
        manifest = {key: value for key, value in bundle.manifest.items() if key != "members"}
        files = {member["name"]: bytes(bundle.member(member["name"])) for member in bundle.manifest["members"]}
    manifest["app"] = {**manifest["app"], "version": f"{version}.0", "sequence": version}
    if wrong:
        for name in {payload["golden"]["file"] for payload in manifest["payloads"] if payload.get("golden")}:
            files[name] = _mirrored(files[name])
    writer.write(path, manifest, files, [keys.development_key()])
    return path


def _mirrored(data: bytes) -> bytes:
    """Golden answers in the opposite order."""
    samples = [
        {key: np.ascontiguousarray(value[..., ::-1]) for key, value in each.items()} for each in arrays.decode(data)
    ]
    return arrays.encode(samples)
