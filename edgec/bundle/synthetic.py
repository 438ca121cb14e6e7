"""Inputs made from a seed, where real ones are absent, private or too large. Labelled as synthetic in the manifest.

Bytes come from SHAKE-256 (FIPS 202) of the seed, the sample's number and the input's name, so that the standard
library of any language makes the same ones. A large tensor repeats a stretch of 8191 values (a prime: rows of an
image don't line up with it), which keeps golden files small: zlib sees 32 KiB back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgec.bundle import arrays

if TYPE_CHECKING:
    import onnx_ir as ir

PERIOD = 8191
Range = tuple[float, float]


def synthetic(
    inputs: Sequence[ir.Value],
    seed: int,
    count: int = 1,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> list[dict[str, NDArray[Any]]]:
    """`count` samples for a model's inputs; an empty list where an input is text, a sequence or of unknown rank.

    Symbolic dimensions are 1 unless `shapes` says otherwise. Values lie in `ranges[name]`, else: floats in [-1, 1],
    8-bit integers over their whole range, wider integers 0 or 1 (they are mostly indices and masks: small ones are
    valid everywhere), booleans both.
    """
    samples: list[dict[str, NDArray[Any]]] = []
    for number in range(count):
        sample = {}
        for value in inputs:
            kind = _dtype(value)
            given = (shapes or {}).get(value.name or "")
            if kind is None or (given is None and value.shape is None):
                return []
            shape = given if given is not None else [d if isinstance(d, int) else 1 for d in value.shape or ()]
            name = value.name or ""
            sample[name] = like(kind, tuple(shape), f"{seed}/{number}/{name}", (ranges or {}).get(name))
        samples.append(sample)
    return samples


def like(kind: np.dtype[Any], shape: tuple[int, ...], seed: str, limits: Range | None = None) -> NDArray[Any]:
    """A tensor of this dtype and shape from a seed, its values within `limits` (both ends included)."""
    size = int(np.prod(shape, dtype=np.int64))
    stretch = min(size, PERIOD)
    drawn = np.frombuffer(hashlib.shake_256(f"edgec golden {seed}".encode()).digest(stretch), np.uint8)
    low, high = limits if limits is not None else _limits(kind)
    values: NDArray[Any]
    if kind.kind in "iub":
        # At most 256 values, evenly spread where the range is wider.
        steps = min(int(high) - int(low), 255)
        values = int(low) + (drawn.astype(np.int64) % (steps + 1)) * (int(high) - int(low)) // max(steps, 1)
    else:
        values = low + (high - low) * (drawn.astype(np.float64) / 255)
    return np.resize(values.astype(kind), shape) if size else np.zeros(shape, kind)


def _limits(kind: np.dtype[Any]) -> Range:
    if kind.kind in "iu":
        info = np.iinfo(kind)
        return (info.min, info.max) if kind.itemsize == 1 else (0, 1)
    return (0, 1) if kind.kind == "b" else (-1.0, 1.0)


def _dtype(value: ir.Value) -> np.dtype[Any] | None:
    """The numpy dtype of a tensor input; None for text, sequences, optionals and types below eight bits."""
    import onnx_ir as ir

    if not isinstance(value.type, ir.TensorType) or value.dtype in (None, ir.DataType.STRING, ir.DataType.UNDEFINED):
        return None
    assert value.dtype is not None
    kind = np.dtype(value.dtype.numpy())
    return kind if arrays.dtype_name(np.empty(0, kind)) is not None else None
