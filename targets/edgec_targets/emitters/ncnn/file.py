"""The two files of an ncnn model: `.param`, a line a layer, and `.bin`, the weights one after the other.

The format is ncnn's docs/developer-guide/param-and-model-file-structure.md and operators.md. A blob has one reader;
where more want it a Split layer makes as many of it, which costs nothing when it runs (they share the memory).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

Number = int | float
Dims = tuple[int, ...]
Params = Mapping[int, Number | Sequence[Number]]

MAGIC = 7767517
HALF_TAG = 0x01306B47
_ARRAY = -23300  # the key of an array is this minus its own
_HINT, _MOST_HINTED = 30, 3


@dataclass
class Weights:
    """One buffer of the `.bin`. A tagged one says its type before its values.

    Its values are stored in half precision where that keeps them exactly: those of a float16 model. ncnn widens them
    when it loads.
    """

    values: np.ndarray
    tagged: bool


@dataclass
class Layer:
    """One line of the `.param`, with its weights."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    params: dict[int, Number | Sequence[Number]] = field(default_factory=dict)
    weights: list[Weights] = field(default_factory=list)
    dims: list[Dims] = field(default_factory=list)
    """Of each result, outermost first."""


class File:
    """Layers in the order in which they run."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._blobs = 0

    def layer(
        self,
        kind: str,
        inputs: Sequence[str],
        dims: Sequence[Dims],
        params: Params | None = None,
        weights: Sequence[Weights] = (),
    ) -> list[str]:
        """Add a layer whose results have these dimensions; their names."""
        made = [self._blob() for _ in dims]
        self.layers.append(Layer(kind, list(inputs), made, dict(params or {}), list(weights), list(dims)))
        return made

    def _blob(self) -> str:
        self._blobs += 1
        return f"b{self._blobs - 1}"

    def drop_unused(self, outputs: Sequence[str]) -> None:
        """Leave out layers that nobody reads, inputs apart."""
        wanted = set(outputs)
        kept = []
        for layer in reversed(self.layers):
            if layer.kind == "Input" or wanted & set(layer.outputs):
                wanted.update(layer.inputs)
                kept.append(layer)
        self.layers = kept[::-1]

    def finish(self, outputs: Sequence[str]) -> tuple[bytes, bytes, list[str]]:
        """The `.param`, the `.bin`, and under which names the outputs are to be asked for."""
        layers, names = self._split(outputs)
        blobs = sum(len(layer.outputs) for layer in layers)
        lines = [str(MAGIC), f"{len(layers)} {blobs}"]
        count: Counter[str] = Counter()
        for layer in layers:
            name = f"{layer.kind.lower()}_{count[layer.kind]}"
            count[layer.kind] += 1
            fields = [layer.kind, name, str(len(layer.inputs)), str(len(layer.outputs)), *layer.inputs, *layer.outputs]
            fields += [_parameter(key, value) for key, value in sorted({**layer.params, **_hints(layer)}.items())]
            lines.append(" ".join(fields))
        data = b"".join(_buffer(weights) for layer in layers for weights in layer.weights)
        return ("\n".join(lines) + "\n").encode("ascii"), data, names

    def _split(self, outputs: Sequence[str]) -> tuple[list[Layer], list[str]]:
        """The layers with a Split after each blob that is read more than once; the outputs' names then."""
        readers = Counter([name for layer in self.layers for name in layer.inputs] + list(outputs))
        copies: dict[str, list[str]] = {}
        layers = []
        for layer in self.layers:
            inputs = [copies[name].pop(0) if name in copies else name for name in layer.inputs]
            layers.append(replace(layer, inputs=inputs))
            for name, dims in zip(layer.outputs, layer.dims, strict=True):
                if readers[name] > 1:
                    copies[name] = [f"{name}_{n}" for n in range(readers[name])]
                    layers.append(Layer("Split", [name], list(copies[name]), dims=[dims] * readers[name]))
        return layers, [copies[name].pop(0) if name in copies else name for name in outputs]


def _hints(layer: Layer) -> dict[int, list[int]]:
    """The dimensions of a layer's results, by which ncnn chooses its kernels as it loads; it has no hint for four."""
    if layer.kind == "Input" or any(len(dims) > _MOST_HINTED for dims in layer.dims):
        return {}
    return {_HINT: [n for dims in layer.dims for n in (len(dims), *[*dims[::-1], 0, 0][:_MOST_HINTED])]}


def _parameter(key: int, value: Number | Sequence[Number]) -> str:
    if isinstance(value, int | float):
        return f"{key}={_number(value)}"
    return f"{_ARRAY - key}={','.join([str(len(value)), *map(_number, value)])}"


def _number(value: Number) -> str:
    """A real number needs a point or an exponent to be taken for one, and fits in 15 characters, which releases before
    October 2026 read: the shortest text that is exactly that float32 has both."""
    return str(value) if isinstance(value, int) else str(np.float32(value))


def _buffer(weights: Weights) -> bytes:
    values = np.ascontiguousarray(weights.values, dtype="<f4")
    if not weights.tagged:
        return values.tobytes()
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if not np.array_equal(halves.astype("<f4"), values):
        return struct.pack("<I", 0) + values.tobytes()
    data = halves.tobytes()
    return struct.pack("<I", HALF_TAG) + data + b"\0" * (-len(data) % 4)
