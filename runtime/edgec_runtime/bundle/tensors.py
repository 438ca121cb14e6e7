"""Golden files: named tensors in one small container that the standard library can read.

The whole file is one zlib stream (RFC 1950). Inflated, it follows the safetensors layout:

    8 bytes   little-endian length of the header
    header    JSON object: tensor name -> {"dtype", "shape", "data_offsets": [begin, end], "coding", ...}
    data      the tensors' bytes; offsets count from here. In header order, without gaps, up to the end of the file

`dtype` is a name of `edgec_runtime.dtypes`; values are little-endian, C order; types below eight bits are packed
(first value in the lowest bits). `coding` says what the bytes between the offsets are, for a tensor of n elements:

    "raw"      the n values. Strings: for each, a 4-byte little-endian length and its UTF-8 bytes.
    "palette"  "entries": k, 1 to 256. k values, then n bytes, each the index of an element's value. Lossless, for
               images and the like. Not for strings, nor for types below eight bits.
    "stride"   "every": k, 2 or more. The elements 0, k, 2k … of the flattened tensor: ceil(n / k) values, raw. For
               large outputs, of which golden vectors compare a sample. Not for types below eight bits.

Nothing is inflated, or expanded from a palette, beyond the reader's limit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple, Union

from edgec_runtime import dtypes
from edgec_runtime.bundle import strictjson
from edgec_runtime.errors import BadInputError

MAX_HEADER = 1 << 20  # bytes of JSON
MAX_TENSORS = 65_536
MAX_DIM = 2**40
MAX_RANK = 64
LIMIT = 1 << 28  # bytes, inflated: what a device gives to golden vectors unless told otherwise
FIELDS = {"dtype", "shape", "data_offsets", "coding"}
EXTRA: dict[str, set[str]] = {"raw": set(), "palette": {"entries"}, "stride": {"every"}}
Buffer = Union[bytes, bytearray, memoryview]


class Tensor(NamedTuple):
    """A decoded tensor.

    `data` holds the values as in coding "raw", of the whole shape where `every` is 1, else of the elements
    0, every, 2·every … of the flattened tensor.
    """

    dtype: str
    shape: tuple[int, ...]
    data: Buffer
    every: int = 1

    @property
    def elements(self) -> int:
        """How many elements `data` holds."""
        return -(-dtypes.count(self.shape) // self.every)

    def strings(self) -> list[str]:
        """The values of a tensor of dtype "string"."""
        return list(_strings(self.data, self.elements))


class Item(NamedTuple):
    """A tensor to encode, its bytes already in the coding: `encode` adds no cleverness of its own.

    `extra` is `entries` for coding "palette" and `every` for "stride"; unused for "raw".
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: Buffer
    coding: str = "raw"
    extra: int = 1


def pack_strings(values: Iterable[str]) -> bytes:
    """The bytes of a tensor of strings in coding "raw"."""
    encoded = [value.encode("utf-8") for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in encoded)


def encode(items: Iterable[Item], *, level: int = 9) -> bytes:
    """A golden file of these tensors, in this order. Raises ValueError for an item that `decode` would refuse."""
    import json
    import zlib

    header: dict[str, Any] = {}
    parts: list[Buffer] = []
    end = 0
    for item in items:
        size = memoryview(item.data).nbytes
        entry: dict[str, Any] = {
            "dtype": item.dtype,
            "shape": list(item.shape),
            "data_offsets": [end, end + size],
            "coding": item.coding,
        }
        if item.coding in ("palette", "stride"):
            entry["entries" if item.coding == "palette" else "every"] = item.extra
        if item.name in header:
            raise ValueError(f"the tensor {item.name!r} is given twice")
        dtype, shape, _, _, coding, extra = _entry(item.name, entry)
        _decoded(item.name, dtype, shape, memoryview(item.data).cast("B"), coding, extra)
        header[item.name] = entry
        parts.append(item.data)
        end += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    if len(text) > MAX_HEADER:
        raise ValueError("too many tensors for one golden file")
    packer = zlib.compressobj(level)
    out = [packer.compress(struct.pack("<Q", len(text)) + text)]
    out += [packer.compress(part) for part in parts]
    return b"".join([*out, packer.flush()])


def decode(data: Buffer, limit: int = LIMIT) -> dict[str, Tensor]:
    """The tensors of a golden file by name, in file order.

    Args:
        data: the file's bytes.
        limit: the most bytes that inflating, and again expanding palettes, may give.

    Raises:
        BadInputError: not a golden file, or larger than the limit (E905).
    """
    try:
        plain = _inflate(data, limit)
        if len(plain) < 8:
            raise ValueError("it is cut short")
        (size,) = struct.unpack_from("<Q", plain)
        if size > min(MAX_HEADER, len(plain) - 8):
            raise ValueError("its header does not fit")
        header = strictjson.loads(bytes(plain[8 : 8 + size]), limit=MAX_HEADER)
        if not isinstance(header, dict) or len(header) > MAX_TENSORS:
            raise ValueError(f"its header is not an object of at most {MAX_TENSORS} tensors")
        view = memoryview(plain)[8 + size :]
        tensors: dict[str, Tensor] = {}
        position, left = 0, limit
        for name, entry in header.items():
            dtype, shape, begin, end, coding, extra = _entry(name, entry)
            if begin != position or not begin <= end <= len(view):
                raise ValueError(f"{name[:60]!r} does not follow the tensor before it")
            if coding == "palette":
                left -= (end - begin) * dtypes.BITS[dtype] // 8  # at least what the indices expand to
                if left < 0:
                    raise ValueError(f"its palettes expand to more than {limit} bytes")
            tensors[name] = _decoded(name, dtype, shape, view[begin:end], coding, extra)
            position = end
        if position != len(view):
            raise ValueError("bytes follow the last tensor")
    except ValueError as error:
        raise BadInputError(
            "a golden file can't be read", str(error), "compile the model again with a matching edgec", code="E905"
        ) from None
    return tensors


def _inflate(data: Buffer, limit: int) -> bytes:
    import zlib

    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"it is not a zlib stream ({error})") from None
    if len(plain) > limit:
        raise ValueError(f"it inflates to more than {limit} bytes")
    if not stream.eof or stream.unused_data or stream.unconsumed_tail:
        raise ValueError("it is cut short, or bytes follow its end")
    return plain


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int, str, int]:
    """(dtype, shape, begin, end, coding, entries or every) of a header's entry, each in its range."""
    what = repr(name[:60])
    coding = entry.get("coding") if isinstance(entry, dict) else None
    if not isinstance(coding, str) or coding not in EXTRA:
        raise ValueError(f"{what} has no coding that this runtime knows")
    if entry.keys() != FIELDS | EXTRA[coding]:
        raise ValueError(f"{what} has missing or unknown fields")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in dtypes.BITS:
        raise ValueError(f"{what} has an unknown dtype")
    if not isinstance(shape, list) or len(shape) > MAX_RANK:
        raise ValueError(f"{what} has no valid shape")
    if not all(type(size) is int and 0 <= size <= MAX_DIM for size in shape):
        raise ValueError(f"{what} has no valid shape")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int and at >= 0 for at in offsets):
        raise ValueError(f"{what} has no valid offsets")
    extra = entry[next(iter(EXTRA[coding]))] if EXTRA[coding] else 1
    most = 256 if coding == "palette" else MAX_DIM
    if type(extra) is not int or not (2 if coding == "stride" else 1) <= extra <= most:
        raise ValueError(f"{what} has no valid {'entries' if coding == 'palette' else 'every'}")
    if (coding != "raw" and 0 < dtypes.BITS[dtype] < 8) or (coding == "palette" and dtype == "string"):
        raise ValueError(f"{what}: {dtype} can't be in coding {coding}")
    return dtype, tuple(shape), offsets[0], offsets[1], coding, extra


def _decoded(name: str, dtype: str, shape: tuple[int, ...], data: memoryview, coding: str, extra: int) -> Tensor:
    """The tensor of one entry; ValueError where its bytes are not as many as its shape and coding call for."""
    elements = dtypes.count(shape)
    every = extra if coding == "stride" else 1
    tensor = Tensor(dtype, shape, data, every)
    if dtype == "string":
        if tensor.elements > data.nbytes // 4:
            raise ValueError(f"{name[:60]!r} has fewer strings than its shape says")
        for _ in _strings(data, tensor.elements):
            pass
        return tensor
    width = dtypes.BITS[dtype] // 8
    if coding == "palette":
        if data.nbytes != extra * width + elements:
            raise ValueError(f"{name[:60]!r} has not as many bytes as its shape says")
        return tensor._replace(data=_expanded(name, data, extra, width))
    if data.nbytes != dtypes.nbytes(dtype, tensor.elements):
        raise ValueError(f"{name[:60]!r} has not as many bytes as its shape says")
    return tensor


def _expanded(name: str, data: memoryview, entries: int, width: int) -> bytes:
    """The values that a palette's indices stand for: one table look-up (`bytes.translate`) per byte of a value."""
    table, indices = bytes(data[: entries * width]), bytes(data[entries * width :])
    if indices and max(indices) >= entries:
        raise ValueError(f"{name[:60]!r} has an index beyond its palette")
    out = bytearray(len(indices) * width)
    for byte in range(width):
        out[byte::width] = indices.translate(table[byte::width].ljust(256, b"\0"))
    return bytes(out)


def _strings(data: Buffer, elements: int) -> Iterable[str]:
    view, at = memoryview(data), 0
    for _ in range(elements):
        if at + 4 > len(view):
            raise ValueError("a string is cut short")
        (size,) = struct.unpack_from("<I", view, at)
        if at + 4 + size > len(view):
            raise ValueError("a string is cut short")
        yield str(view[at + 4 : at + 4 + size], "utf-8")
        at += 4 + size
    if at != len(view):
        raise ValueError("bytes follow the last string")
