"""How a program's arrays map to blobs: the payload's third file, read by `edgec_runtime/engines/ncnn.py`.

JSON: {"format": 1, "bin": bytes of the `.bin`, "inputs": [{"name", "shape", "blob", "dims"}], "outputs": the same}.
`shape` is ONNX's, `dims` the blob's, outermost first; both have as many elements, in the same order. All are float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgec_targets.emitters.ncnn.file import Dims

FORMAT = 1
ALIGNED = 4
"""ncnn begins each of a blob's outermost parts at a multiple of 16 bytes: four floats."""


@dataclass(frozen=True)
class Port:
    """An input or output."""

    name: str
    shape: Dims
    blob: str
    dims: Dims


def plain(dims: Dims) -> bool:
    """Whether a blob of these dimensions has no gaps in memory: an array of the program's can be one, and back."""
    return len(dims) < 3 or math.prod(dims[1:]) % ALIGNED == 0


def write(inputs: Sequence[Port], outputs: Sequence[Port], size: int) -> bytes:
    """The file; the same ports give the same bytes."""
    document = {
        "bin": size,
        "format": FORMAT,
        "inputs": [_port(port) for port in inputs],
        "outputs": [_port(port) for port in outputs],
    }
    return (json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _port(port: Port) -> dict[str, str | list[int]]:
    return {"name": port.name, "shape": list(port.shape), "blob": port.blob, "dims": list(port.dims)}
