"""Arrays in and out of golden files: which coding each tensor gets. The container: `edgec_runtime.bundle.tensors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgec_runtime import dtypes
from edgec_runtime.bundle import tensors

if TYPE_CHECKING:
    from edgec_runtime.bundle import Bundle

Array = NDArray[Any]
Feed = Mapping[str, Array]
LEVELS = 256  # a palette's entries: what one byte can index

_FROM_ML_DTYPES = {theirs: ours for ours, theirs in dtypes.ML_DTYPES.items()}


def dtype_name(array: Array) -> str | None:
    """The dtype's name in golden files; None for what they don't hold as arrays: text, objects, below eight bits."""
    name = _FROM_ML_DTYPES.get(array.dtype.name, array.dtype.name)
    return name if dtypes.BITS.get(name, 0) >= 8 else None


def encode(samples: Sequence[Feed], every: Mapping[str, int] | None = None) -> bytes:
    """A golden file of samples, tensors named "0/image".

    Tensors with at most 256 distinct values are stored as a palette, without loss; those named in `every` as each
    k-th element; the others as they are. Raises ValueError for a dtype that `dtype_name` does not know.
    """
    return tensors.encode(
        _item(f"{number}/{name}", sample[name], (every or {}).get(name, 1))
        for number, sample in enumerate(samples)
        for name in sorted(sample)
    )


def decode(data: bytes | memoryview) -> list[dict[str, Array]]:
    """The samples of a golden file without strided tensors (those of inputs never are)."""
    samples: dict[str, dict[str, Array]] = {}
    for key, tensor in tensors.decode(data).items():
        number, _, name = key.partition("/")
        samples.setdefault(number, {})[name] = array(tensor)
    return [samples[number] for number in sorted(samples, key=int)]


def array(tensor: tensors.Tensor) -> Array:
    """A decoded tensor as an array: of its shape, or flat where it holds only each k-th element."""
    kind = np.dtype(_numpy(tensor.dtype))
    flat = np.frombuffer(tensor.data, kind.newbyteorder("<") if kind.kind in "iufc" else kind).astype(kind, copy=False)
    return flat.reshape(tensor.shape) if tensor.every == 1 else flat


def inputs(bundle: Bundle) -> list[dict[str, Array]]:
    """The golden inputs in a bundle, one dict a sample; none where it was made without."""
    name = bundle.manifest["golden"]["inputs"]
    return decode(bundle.member(name)) if name is not None else []


def _numpy(name: str) -> Any:
    if name in dtypes.ML_DTYPES:
        import ml_dtypes

        return getattr(ml_dtypes, dtypes.ML_DTYPES[name])
    return name


def _item(name: str, value: Array, every: int) -> tensors.Item:
    kind = dtype_name(value)
    if kind is None:
        raise ValueError(f"{name}: a golden file holds no {value.dtype}")
    flat = np.ascontiguousarray(value).reshape(-1)
    if every > 1:
        return tensors.Item(name, kind, value.shape, _bytes(flat[::every]), "stride", every)
    if value.itemsize > 1 and (found := palette(flat)) is not None:
        table, indices = found
        if len(table) * value.itemsize + len(indices) < value.nbytes:
            data = _bytes(table) + indices.tobytes()
            return tensors.Item(name, kind, value.shape, data, "palette", len(table))
    return tensors.Item(name, kind, value.shape, _bytes(flat))


def palette(flat: Array) -> tuple[Array, NDArray[np.uint8]] | None:
    """(values, the index of each element), or None over 256 distinct values. Bit for bit: NaN and -0.0 are kept."""
    if flat.size == 0 or flat.itemsize not in (2, 4, 8):
        return None
    bits = flat.view(f"u{flat.itemsize}")
    if len(np.unique(bits[: 16 * LEVELS])) > LEVELS:  # most tensors with many values show it early
        return None
    distinct, indices = np.unique(bits, return_inverse=True)
    if len(distinct) > LEVELS:
        return None
    return distinct.view(flat.dtype), indices.reshape(-1).astype(np.uint8)


def _bytes(flat: Array) -> bytes:
    """Little-endian, whatever this machine is."""
    swapped = flat.astype(flat.dtype.newbyteorder("<"), copy=False) if flat.dtype.kind in "iufc" else flat
    return np.ascontiguousarray(swapped).tobytes()
