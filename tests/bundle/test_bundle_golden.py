"""Golden vectors: lossless where they fit, labelled where not, never over the size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgec.bundle import arrays, golden, synthetic
from edgec.errors import UsageError
from edgec_runtime.bundle import tensors

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
    "complex64",
]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=6))
)


def image(seed: int = 0, shape: tuple[int, ...] = (1, 3, 64, 64)) -> np.ndarray:
    """An 8-bit photo's noise, normalised to floats: at most 256 distinct values."""
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1)


def noise(seed: int = 0, shape: tuple[int, ...] = (1, 3, 64, 64)) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def mean(feed: Mapping[str, Any]) -> dict[str, Any]:
    return {"y": np.asarray(feed["x"], np.float32).mean((-1, -2))}


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def total(made: golden.Golden, payloads: int, outputs: list[dict[str, np.ndarray]]) -> int:
    return len(made.inputs or b"") + len(made.reference or b"") + payloads * len(made.answers(outputs))


@settings(max_examples=50)
@given(st.lists(st.dictionaries(st.sampled_from(["x", "y/z", "é"]), ARRAYS, min_size=1), min_size=1, max_size=11))
def test_arrays_come_back_bit_for_bit(samples: list[dict[str, np.ndarray]]) -> None:
    back = arrays.decode(arrays.encode(samples))
    assert len(back) == len(samples)
    for given_, got in zip(samples, back, strict=True):
        assert given_.keys() == got.keys()
        assert all(same(given_[name], got[name]) for name in given_)


@given(ARRAYS.filter(lambda a: a.size > 0), st.integers(2, 9))
def test_each_kth_element_is_kept(value: np.ndarray, every: int) -> None:
    tensor = tensors.decode(arrays.encode([{"y": value}], {"y": every}))["0/y"]
    assert tensor.shape == value.shape
    assert same(arrays.array(tensor), value.reshape(-1)[::every].copy())


@pytest.mark.parametrize("distinct", [1, 255, 256, 257])
def test_palette_only_up_to_256_values(distinct: int) -> None:
    value = np.resize(np.linspace(-1, 1, distinct, dtype=np.float32), 5000)
    assert (arrays.palette(value) is not None) == (distinct <= 256)
    data = arrays.encode([{"x": value}])
    assert same(arrays.decode(data)[0]["x"], value)


def test_palette_keeps_nan_and_negative_zero() -> None:
    value = np.resize(np.array([0.0, -0.0, np.nan, np.inf], np.float32), 1000)
    value.view(np.uint32)[2] |= 7  # a NaN with a payload of its own
    found = arrays.palette(value)
    assert found is not None and len(found[0]) == 5
    assert same(arrays.decode(arrays.encode([{"x": value}]))[0]["x"], value)


def test_an_image_takes_a_byte_an_element() -> None:
    assert len(arrays.encode([{"x": image()}])) < 3 * 64 * 64 * 1.05 + 1500


# What is chosen


def test_real_inputs_as_they_are() -> None:
    feeds = [{"x": image(n)} for n in range(3)]
    made = golden.make(feeds, mean, kind="data", limit_bytes=golden.limit([]))
    assert (made.kind, len(made.feeds), made.seed, made.notes) == ("data", 3, None, ())
    decoded = arrays.decode(made.inputs or b"")
    assert all(same(d["x"], f["x"]) for d, f in zip(decoded, feeds, strict=True))
    reference = tensors.decode(made.reference or b"")
    assert same(arrays.array(reference["1/y"]), mean(feeds[1])["y"])


def test_as_many_real_inputs_as_fit() -> None:
    feeds = [{"x": image(n)} for n in range(4)]
    made = golden.make(feeds, mean, kind="data", limit_bytes=30_000)
    assert (made.kind, len(made.feeds)) == ("data", 2)
    assert total(made, 1, [mean(f) for f in made.feeds]) <= 30_000


def test_too_large_a_float_input_is_coarsened_and_says_so() -> None:
    feeds = [{"x": noise(n), "scale": np.array([1.25, 3.5], np.float32)} for n in range(2)]
    asked: list[Mapping[str, Any]] = []

    def reference(feed: Mapping[str, Any]) -> dict[str, Any]:
        asked.append(feed)
        return mean(feed)

    made = golden.make(feeds, reference, kind="data", limit_bytes=30_000)
    assert made.kind == "data" and made.seed is None
    assert "256 levels" in made.notes[0]
    coarse = made.feeds[0]["x"]
    assert len(np.unique(coarse)) <= 256
    assert np.abs(coarse - feeds[0]["x"]).max() <= (feeds[0]["x"].max() - feeds[0]["x"].min()) / 255 / 2 * 1.001
    assert same(made.feeds[0]["scale"], feeds[0]["scale"])  # small tensors stay as they are
    # What a device decodes is what the float model was asked on.
    assert same(arrays.decode(made.inputs or b"")[0]["x"], coarse)
    assert any(feed is made.feeds[0] for feed in asked)
    assert total(made, 1, [mean(f) for f in made.feeds]) <= 30_000


def test_synthetic_where_even_that_is_too_large() -> None:
    feeds = [{"x": noise(), "size": np.array([64, 64], np.int64)}]
    made = golden.make(feeds, mean, kind="data", limit_bytes=11_500, seed=5)
    assert (made.kind, made.seed) == ("synthetic", 5)
    assert "synthetic" in made.notes[0]
    x = made.feeds[0]["x"]
    assert x.shape == (1, 3, 64, 64) and x.dtype == np.float32
    assert feeds[0]["x"].min() <= x.min() and x.max() <= feeds[0]["x"].max()
    assert same(made.feeds[0]["size"], feeds[0]["size"])
    assert total(made, 1, [mean(f) for f in made.feeds]) <= 11_500


def test_nothing_where_nothing_fits() -> None:
    made = golden.make([{"x": noise()}], mean, kind="data", limit_bytes=100)
    assert made.kind == "none" and made.notes and not made.files()


def test_values_that_are_not_finite_are_not_coarsened() -> None:
    x = noise()
    x[0, 0, 0, 0] = np.inf
    assert golden.coarsened([{"x": x}]) == []
    assert golden.make([{"x": x}], mean, kind="data", limit_bytes=30_000).kind == "synthetic"


def test_large_answers_keep_each_kth_element() -> None:
    def twice(feed: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": np.asarray(feed["x"]) * 2, "label": np.zeros(1, np.int64)}

    feeds = [{"x": image(shape=(1, 3, 128, 128))}]
    made = golden.make(feeds, twice, kind="data", limit_bytes=100_000, payloads=3)
    assert made.kind == "data" and made.every.keys() == {"y"}
    k = made.every["y"]
    assert f"each {k}th" in made.notes[-1]
    answers = tensors.decode(made.answers([twice(f) for f in made.feeds]))
    assert answers["0/y"].every == k and answers["0/label"].every == 1
    assert same(arrays.array(answers["0/y"]), (feeds[0]["x"] * 2).reshape(-1)[::k].copy())
    assert total(made, 3, [twice(f) for f in made.feeds]) <= 100_000


@settings(max_examples=30)
@given(
    limit=st.integers(2_000, 200_000), count=st.integers(1, 4), payloads=st.integers(0, 4),
    real=st.sampled_from([image, noise]), outputs=st.integers(1, 100_000),
)  # fmt: skip
def test_never_over_the_limit(limit: int, count: int, payloads: int, real: Any, outputs: int) -> None:
    def reference(feed: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": np.random.default_rng(0).random(outputs), "z": np.asarray(feed["x"]).mean(keepdims=True)}

    feeds = [{"x": real(n, (1, 3, 32, 32))} for n in range(count)]
    made = golden.make(feeds, reference, kind="data", limit_bytes=limit, payloads=payloads)
    if made.kind != "none":
        assert total(made, payloads, [reference(f) for f in made.feeds]) <= limit
    again = golden.make(feeds, reference, kind="data", limit_bytes=limit, payloads=payloads)
    assert made.files() == again.files() and made.section() == again.section()


def test_without_a_limit_nothing_is_changed() -> None:
    feeds = [{"x": noise(n)} for n in range(3)]
    made = golden.make(feeds, [mean(f) for f in feeds], kind="data", limit_bytes=None)
    assert len(made.feeds) == 3 and not made.every and not made.notes


def test_given_answers_can_not_be_taken_again() -> None:
    with pytest.raises(UsageError, match="don't fit"):
        golden.make([{"x": noise()}], [mean({"x": noise()})], kind="data", limit_bytes=30_000)


def test_kind_none() -> None:
    made = golden.make([{"x": image()}], mean, kind="none", limit_bytes=None)
    assert made.section() == {
        "kind": "none", "samples": 0, "inputs": None, "reference": None, "seed": None, "notes": [],
    }  # fmt: skip


def test_text_inputs_give_none_with_a_note() -> None:
    made = golden.make([{"words": np.array(["a", "b"], object)}], mean, kind="data", limit_bytes=None)
    assert made.kind == "none" and "words" in made.notes[0]


def test_outputs_that_are_no_arrays_are_left_out() -> None:
    def reference(feed: Mapping[str, Any]) -> dict[str, Any]:
        return {"label": np.array(["cat"], object), "scores": [{"cat": 1.0}], "y": np.ones(3, np.float32)}

    made = golden.make([{"x": image()}], reference, kind="data", limit_bytes=None)
    assert made.omitted == ("label", "scores") and len(made.notes) == 2
    assert list(tensors.decode(made.answers([reference({})]))) == ["0/y"]


def test_limit() -> None:
    assert golden.limit([1000]) == 256_000 == golden.limit([])
    assert golden.limit([1000, 20_000_000]) == 1_000_000


# Synthetic inputs


def value(name: str, dtype: ir.DataType, shape: list[int | str] | None) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=None if shape is None else ir.Shape(shape))


def test_synthetic_follows_dtype_shape_and_seed() -> None:
    inputs = [
        value("x", ir.DataType.FLOAT, ["batch", 3, 8]),
        value("ids", ir.DataType.INT64, [1, 50]),
        value("pixels", ir.DataType.UINT8, [300]),
        value("on", ir.DataType.BOOL, []),
        value("none", ir.DataType.FLOAT16, [0, 3]),
    ]
    first, second = golden.synthetic(inputs, 7, 2)
    assert first["x"].shape == (1, 3, 8) and first["x"].dtype == np.float32
    assert np.abs(first["x"]).max() <= 1 and len(np.unique(first["x"])) > 10
    assert set(first["ids"].flat) == {0, 1}
    assert first["pixels"].min() < 20 and first["pixels"].max() > 235
    assert first["on"].shape == () and first["none"].shape == (0, 3)
    assert not same(first["x"], second["x"])
    again = golden.synthetic(inputs, 7, 2)
    assert all(same(a[n], b[n]) for a, b in zip((first, second), again, strict=True) for n in a)
    assert not same(golden.synthetic(inputs, 8)[0]["x"], first["x"])


def test_synthetic_is_reproducible_by_the_standard_library() -> None:
    x = golden.synthetic([value("x", ir.DataType.FLOAT, [2, 5000])], 3)[0]["x"]
    drawn = hashlib.shake_256(b"edgec golden 3/0/x").digest(synthetic.PERIOD)
    expected = [np.float32(-1 + 2 * (drawn[n % synthetic.PERIOD] / 255)) for n in range(10_000)]
    assert x.reshape(-1).tolist() == [float(e) for e in expected]


def test_synthetic_takes_shapes_and_ranges() -> None:
    inputs = [value("x", ir.DataType.FLOAT, ["n", "m"]), value("ids", ir.DataType.INT32, [1000])]
    made = golden.synthetic(inputs, 0, shapes={"x": [2, 9]}, ranges={"x": (5.0, 6.0), "ids": (10, 1_000_000)})[0]
    assert made["x"].shape == (2, 9) and made["x"].min() >= 5 and made["x"].max() <= 6
    assert made["ids"].min() >= 10 and 900_000 < made["ids"].max() <= 1_000_000


@pytest.mark.parametrize(
    "odd",
    [
        value("s", ir.DataType.STRING, [1]),
        value("i", ir.DataType.INT4, [2]),
        value("x", ir.DataType.FLOAT, None),
        ir.Value(name="q", type=ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))),
    ],
)
def test_no_synthetic_inputs_for_what_is_no_plain_tensor(odd: ir.Value) -> None:
    assert golden.synthetic([value("x", ir.DataType.FLOAT, [1]), odd], 0) == []


def test_large_synthetic_inputs_compress() -> None:
    made = golden.synthetic([value("x", ir.DataType.FLOAT, [1, 3, 640, 640])], 0)
    assert len(arrays.encode(made)) < 20_000
