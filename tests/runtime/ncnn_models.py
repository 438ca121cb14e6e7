"""Small ncnn models, written here by hand, and how a test loads one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

from edgec_runtime.engines import ncnn
from edgec_runtime.payload import StoredPayload

X = np.array([[1, -2, 3, -4]], np.float32)
RELU = [[1.0, 0.0, 3.0, 0.0]]
RELU_PARAM = "7767517\n2 2\nInput x 0 1 x 0=4\nReLU y 1 1 x y\n"


def port(name: str, shape: list[int], dims: list[int], blob: str = "") -> dict:
    return {"name": name, "shape": shape, "blob": blob or name, "dims": dims}


def relu() -> dict[str, bytes]:
    """y = relu(x), float32[1, 4]."""
    return files(RELU_PARAM, b"", [port("x", [1, 4], [4])], [port("y", [1, 4], [4])])


def image(act: int = 0) -> dict[str, bytes]:
    """y = 2 x + 1 by a depthwise convolution over three channels of 4 × 4; z = the sums of y's channels."""
    param = (
        "7767517\n4 5\nInput x 0 1 x 0=4 1=4 2=3\n"
        f"ConvolutionDepthWise c 1 1 x y 0=3 1=1 5=1 6=3 7=3 9={act}\n"
        "Split s 1 2 y y0 y1\nReduction r 1 1 y1 z 0=0 1=0 -23303=2,1,2 4=0 5=1\n"
    )
    data = struct.pack("<I3f3f", 0, 2, 2, 2, 1, 1, 1)
    outputs = [port("y", [1, 3, 4, 4], [3, 4, 4], "y0"), port("z", [1, 3], [3])]
    return files(param, data, [port("x", [1, 3, 4, 4], [3, 4, 4])], outputs)


def big(size: int = 256) -> dict[str, bytes]:
    """y = W x of a square matrix: enough work for two threads to share."""
    rng = np.random.default_rng(0)
    param = f"7767517\n2 2\nInput x 0 1 x 0={size} 1={size}\nInnerProduct p 1 1 x y 0={size} 2={size * size}\n"
    data = struct.pack("<I", 0) + rng.standard_normal((size, size)).astype("<f4").tobytes()
    return files(param, data, [port("x", [size, size], [size, size])], [port("y", [size, size], [size, size])])


def files(param: str, data: bytes, inputs: list[dict], outputs: list[dict]) -> dict[str, bytes]:
    interface = {"format": 1, "bin": len(data), "inputs": inputs, "outputs": outputs}
    return {"param": param.encode(), "bin": data, "interface": json.dumps(interface).encode()}


def changed(made: dict[str, bytes], **fields: object) -> dict[str, bytes]:
    """The same files with other fields in the interface."""
    return {**made, "interface": json.dumps({**json.loads(made["interface"]), **fields}).encode()}


def payload(folder: Path, made: dict[str, bytes], *, proven: bool = True) -> StoredPayload:
    paths = {}
    for role, data in made.items():
        paths[role] = str(folder / role)
        (folder / role).write_bytes(data)
    stored = StoredPayload({"id": "p", "engine": "ncnn", "engine_version": ">=1", "files": paths}, paths)
    library = ncnn.library()
    if proven and library is not None:
        stored.proven = library.stamp()
    return stored


def load(folder: Path, made: dict[str, bytes] | None = None, *, proven: bool = True, **options: object):
    stored = payload(folder, relu() if made is None else made, proven=proven)
    return ncnn.Engine().load(stored, {"threads": 1, **options})
