"""Golden files: what is encoded is decoded, the codings, the bounds, bad bytes."""

from __future__ import annotations

import json
import math
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime import dtypes
from edgec_runtime.bundle import tensors
from edgec_runtime.bundle.tensors import Item, Tensor
from edgec_runtime.errors import BadInputError

WHOLE = [name for name, bits in dtypes.BITS.items() if bits >= 8]
shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def items(draw):
    dtype, shape = draw(st.sampled_from(list(dtypes.BITS))), draw(shapes)
    n = dtypes.count(shape)
    if dtype == "string":
        return dtype, shape, tensors.pack_strings(draw(st.lists(st.text(max_size=5), min_size=n, max_size=n))), "raw", 1
    coding = draw(st.sampled_from(["raw", "palette", "stride"])) if dtypes.BITS[dtype] >= 8 else "raw"
    width = dtypes.BITS[dtype] // 8
    if coding == "palette":
        k = draw(st.integers(1, 256))
        table = bytes((7 * b + 3) % 256 for b in range(k * width))
        return dtype, shape, table + bytes(draw(st.integers(0, k - 1)) for _ in range(n)), coding, k
    every = draw(st.integers(2, 7)) if coding == "stride" else 1
    size = dtypes.nbytes(dtype, -(-n // every))
    return dtype, shape, draw(st.binary(min_size=size, max_size=size)), coding, every


@settings(max_examples=300)
@given(st.lists(items(), max_size=4))
def test_round_trip(many):
    named = [Item(f"{n}/t", *item) for n, item in enumerate(many)]
    decoded = tensors.decode(tensors.encode(named))
    assert list(decoded) == [item.name for item in named]
    for item, tensor in zip(named, decoded.values(), strict=True):
        assert (tensor.dtype, tensor.shape) == (item.dtype, item.shape)
        if item.coding == "palette":
            width = dtypes.BITS[item.dtype] // 8
            table, indices = item.data[: item.extra * width], item.data[item.extra * width :]
            assert bytes(tensor.data) == b"".join(table[i * width : (i + 1) * width] for i in indices)
        else:
            assert bytes(tensor.data) == item.data
            assert tensor.every == (item.extra if item.coding == "stride" else 1)
        assert tensor.elements == math.ceil(dtypes.count(item.shape) / tensor.every)


def test_strings():
    data = tensors.pack_strings(["", "ä", "three"])
    tensor = tensors.decode(tensors.encode([Item("s", "string", (3,), data)]))["s"]
    assert tensor.strings() == ["", "ä", "three"]


def test_each_kth_element_of_numpy():
    np = pytest.importorskip("numpy")
    values = np.arange(35, dtype="<f4").reshape(5, 7)
    data = tensors.encode([Item("y", "float32", (5, 7), values.ravel()[::4].tobytes(), "stride", 4)])
    tensor = tensors.decode(data)["y"]
    assert np.array_equal(np.frombuffer(tensor.data, "<f4"), values.ravel()[:: tensor.every])


def test_a_file_that_inflates_beyond_the_limit():
    bomb = zlib.compress(bytes(50_000_000), 9)
    assert len(bomb) < 50_000
    with pytest.raises(BadInputError, match="golden file") as caught:
        tensors.decode(bomb, limit=1_000_000)
    assert "more than 1000000" in caught.value.why


def test_a_palette_that_expands_beyond_the_limit():
    item = Item("p", "complex128", (100_000,), bytes(16) + bytes(100_000), "palette", 1)
    data = tensors.encode([item])
    assert len(tensors.decode(data)["p"].data) == 1_600_000
    with pytest.raises(BadInputError):
        tensors.decode(data, limit=1_000_000)


def test_many_palettes_share_the_limit():
    data = tensors.encode(Item(str(n), "float64", (1000,), bytes(8) + bytes(1000), "palette", 1) for n in range(20))
    assert len(tensors.decode(data, limit=200_000)) == 20
    with pytest.raises(BadInputError):
        tensors.decode(data, limit=100_000)


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return zlib.compress(struct.pack("<Q", len(text)) + text + data)


def entry(**changes):
    return {"dtype": "uint8", "shape": [2], "data_offsets": [0, 2], "coding": "raw", **changes}


BAD = {
    "not zlib": b"hello",
    "empty": b"",
    "cut short": packed({"a": entry()}, b"xy")[:-3],
    "bytes after the stream": packed({"a": entry()}, b"xy") + b"z",
    "no header length": zlib.compress(b"1234"),
    "header longer than the file": zlib.compress(struct.pack("<Q", 100) + b"{}"),
    "header length huge": zlib.compress(struct.pack("<Q", 2**63) + b"{}"),
    "header not JSON": packed(b"{"),
    "header a list": packed([]),
    "bytes after the tensors": packed({"a": entry()}, b"xyz"),
    "too few bytes": packed({"a": entry()}, b"x"),
    "gap": packed({"a": entry(data_offsets=[1, 3])}, b"xyz"),
    "overlap": packed({"a": entry(), "b": entry()}, b"xy"),
    "backwards": packed({"a": entry(data_offsets=[0, -2])}),
    "offsets of another kind": packed({"a": entry(data_offsets=[0, 2.0])}, b"xy"),
    "offsets missing": packed({"a": {"dtype": "uint8", "shape": [2], "coding": "raw"}}, b"xy"),
    "unknown field": packed({"a": entry(more=1)}, b"xy"),
    "unknown coding": packed({"a": entry(coding="zip")}, b"xy"),
    "unknown dtype": packed({"a": entry(dtype="float31")}, b"xy"),
    "dtype of another kind": packed({"a": entry(dtype=["uint8"])}, b"xy"),
    "shape too large for its bytes": packed({"a": entry(shape=[2**39, 2**39])}, b"xy"),
    "shape negative": packed({"a": entry(shape=[-2])}, b"xy"),
    "shape a boolean": packed({"a": entry(shape=[True, 2])}, b"xy"),
    "rank too high": packed({"a": entry(shape=[1] * 65, data_offsets=[0, 1])}, b"x"),
    "palette without entries": packed({"a": entry(coding="palette")}, b"xy"),
    "palette with 257 entries": packed({"a": entry(coding="palette", entries=257, data_offsets=[0, 259])}, bytes(259)),
    "palette index out of range": packed({"a": entry(coding="palette", entries=1, data_offsets=[0, 3])}, b"\0\0\1"),
    "palette of strings": packed({"a": entry(dtype="string", coding="palette", entries=1)}, b"xy"),
    "palette of int4": packed({"a": entry(dtype="int4", coding="palette", entries=1)}, b"xy"),
    "stride of one": packed({"a": entry(coding="stride", every=1)}, b"xy"),
    "stride of int4": packed({"a": entry(dtype="int4", coding="stride", every=2, data_offsets=[0, 1])}, b"x"),
    "string cut short": packed({"a": entry(dtype="string", shape=[1], data_offsets=[0, 5])}, b"\5\0\0\0a"),
    "string too long": packed({"a": entry(dtype="string", shape=[1], data_offsets=[0, 6])}, b"\1\0\0\0ab"),
    "string not UTF-8": packed({"a": entry(dtype="string", shape=[1], data_offsets=[0, 5])}, b"\1\0\0\0\xff"),
    "more strings than bytes": packed({"a": entry(dtype="string", shape=[2**40], data_offsets=[0, 0])}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_files_are_our_error(data):
    with pytest.raises(BadInputError) as caught:
        tensors.decode(data)
    assert caught.value.code == "E905" and caught.value.why


@settings(max_examples=400)
@given(st.data())
def test_mutated_headers_and_bytes(data):
    header = json.dumps({"a": entry(), "b": entry(data_offsets=[2, 4])}).ljust(150).encode()
    good = struct.pack("<Q", 150) + header + b"wxyz"
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        for tensor in tensors.decode(zlib.compress(bytes(changed)), limit=10_000).values():
            assert isinstance(tensor, Tensor)
    except BadInputError:
        pass


@pytest.mark.parametrize(
    "item",
    [
        Item("a", "uint8", (3,), b"xy"),
        Item("a", "float31", (1,), b"x"),
        Item("a", "int4", (3,), b"xyz"),
        Item("a", "uint8", (2,), b"xy", "zip"),
        Item("a", "uint8", (2,), b"\0\1\2", "palette", 1),
    ],
)
def test_encode_refuses_what_decode_would(item):
    with pytest.raises(ValueError):
        tensors.encode([item])


def test_encode_refuses_a_name_twice():
    with pytest.raises(ValueError, match="twice"):
        tensors.encode([Item("a", "uint8", (), b"x")] * 2)
