"""Patches: they make the second of any two files from the first; whatever a patch is, applying it is safe."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgec.flash import delta
from edgec.flash.delta.spans import spans
from edgec.flash.delta.terms import subtract
from edgec_runtime import delta as device


def applied(patch: bytes, old: bytes, size: int) -> bytes:
    made = bytearray()
    device.apply(io.BytesIO(patch), io.BytesIO(old), made.extend, size=size)
    return bytes(made)


def model(tensors: dict[str, np.ndarray], tail: str = "") -> bytes:
    """An ONNX file with these initializers, and a node whose name is `tail`."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"], name=f"n{tail}_{name}") for name in tensors]
    outputs = [helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None) for name in tensors]
    graph = helper.make_graph(
        nodes, f"g{tail}", [], outputs, [numpy_helper.from_array(a, name) for name, a in tensors.items()]
    )
    return helper.make_model(graph).SerializeToString(deterministic=True)


pieces = st.lists(st.one_of(st.binary(max_size=80), st.sampled_from([bytes(200), bytes(range(256)), b"ab" * 90])))


@given(pieces, pieces, st.randoms(use_true_random=False))
def test_any_file_is_made_from_any_other(first: list[bytes], second: list[bytes], chance: random.Random) -> None:
    old = b"".join(first)
    mixed = [*second, *first]
    chance.shuffle(mixed)
    new = b"".join(mixed)
    patch = delta.encode(old, new)
    assert applied(patch, old, len(new)) == new


@given(st.data(), st.sampled_from([1, 2, 4, 8]))
def test_additions_are_numpys(data: st.DataObject, width: int) -> None:
    count = data.draw(st.integers(1, 70))
    old, new = (data.draw(st.binary(min_size=count * width, max_size=count * width)) for _ in range(2))
    terms = subtract(new, old, width)
    assert device.added(old, terms, width) == new


@pytest.mark.parametrize("width", [1, 2, 4, 8])
def test_small_steps_are_small_terms(width: int) -> None:
    values = np.arange(-40, 40).astype(f"<i{width}")
    terms = subtract((values + np.resize([0, 1, -1, 2], 80).astype(values.dtype)).tobytes(), values.tobytes(), width)
    assert set(terms[:80]) <= {0, 1, 2, 4} and not any(terms[80:])


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"w{n}": rng.integers(-127, 128, (64, 48)).astype(np.int8) for n in range(6)}


def test_tensors_that_moved_are_found_by_their_names(weights: dict[str, np.ndarray]) -> None:
    """Layers in another order and with another graph around: nearly nothing is sent."""
    other = dict(reversed(weights.items()))
    old, new = model(weights), model(other, tail="_renamed")
    patch = delta.encode(old, new)
    assert applied(patch, old, len(new)) == new
    assert len(patch) < 0.05 * len(new)


def test_weights_that_all_moved_a_little_cost_a_few_bits_each(weights: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(1)
    moved = {name: np.clip(w + rng.integers(-1, 2, w.shape), -127, 127).astype(np.int8) for name, w in weights.items()}
    old, new = model(weights), model(moved)
    patch = delta.encode(old, new)
    assert applied(patch, old, len(new)) == new
    assert len(patch) < 0.3 * len(new)  # log2(3) / 8 = 0.2, and the graph


def test_a_new_training_is_sent_as_it_is(weights: dict[str, np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    new = model({name: rng.integers(-127, 128, w.shape).astype(np.int8) for name, w in weights.items()})
    assert len(delta.encode(model(weights), new)) < 1.02 * len(new) + 300


def test_nothing_changed_is_nothing_sent(weights: dict[str, np.ndarray]) -> None:
    old = model(weights)
    assert len(delta.encode(old, old)) < 300


def test_where_tensors_are(weights: dict[str, np.ndarray]) -> None:
    data = model(weights)
    found = {span.name: data[span.at : span.at + span.length] for span in spans(data)}
    assert found == {name: w.tobytes() for name, w in weights.items()}
    assert {span.width for span in spans(model({"x": np.zeros((8, 8), np.float32)}))} == {4}


def test_where_tensors_are_in_tflite() -> None:
    pytest.importorskip("ai_edge_litert", reason="pip install 'edgec[litert]'")
    import onnx_ir as ir

    from edgec_targets.emitters.litert.conversion import convert

    w = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    info = [helper.make_tensor_value_info(n, 1, [2, s]) for n, s in (("x", 32), ("y", 8))]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [numpy_helper.from_array(w, "w")])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data = convert(ir.serde.deserialize_model(proto)).data
    assert data is not None
    held = [data[s.at : s.at + s.length] for s in spans(data) if s.width == 4]
    assert w.T.tobytes() in held or w.tobytes() in held


@given(st.binary(max_size=300), st.integers(0, 2000), st.integers(0, 255))
def test_files_of_any_content_have_spans_or_none(tail: bytes, at: int, value: int) -> None:
    for data in (tail, b"\x00\x00\x00\x00TFL3" + tail, bytearray(model({"w": np.zeros((8, 32), np.int8)}))):
        mixed = bytearray(data)
        if mixed:
            mixed[at % len(mixed)] = value
        for span in spans(bytes(mixed)):
            assert span.at >= 0 and span.at + span.length <= len(mixed)


@pytest.fixture(scope="module")
def good(weights: dict[str, np.ndarray]) -> tuple[bytes, bytes, bytes]:
    rng = np.random.default_rng(3)
    old = model(weights)
    new = model({name: (w + rng.integers(0, 2, w.shape)).astype(np.int8) for name, w in weights.items()}, "x")
    return old, new, delta.encode(old, new)


def test_a_damaged_patch_makes_an_error_or_another_file_and_never_more_than_was_asked(
    good: tuple[bytes, bytes, bytes],
) -> None:
    """The digest decides in the end; here: no other exception, no more bytes than the manifest says, whatever it is."""
    old, new, patch = good
    chance = random.Random(0)
    refused = 0
    for _ in range(3000):
        mixed = bytearray(patch)
        for _ in range(chance.randint(1, 3)):
            what = chance.random()
            at = chance.randrange(len(mixed)) if chance.random() < 0.5 else chance.randrange(min(120, len(mixed)))
            if what < 0.6:
                mixed[at] = chance.randrange(256)
            elif what < 0.8:
                del mixed[at : at + chance.randint(1, 40)]
            else:
                mixed[at:at] = chance.randbytes(chance.randint(1, 40))
            if not mixed:
                break
        made = bytearray()
        try:
            device.apply(io.BytesIO(mixed), io.BytesIO(old), made.extend, size=len(new))
        except device.PatchError:
            refused += 1
        assert len(made) <= len(new)
    assert refused > 2000


def test_for_another_base_it_is_refused(good: tuple[bytes, bytes, bytes]) -> None:
    old, new, patch = good
    with pytest.raises(device.PatchError, match="another base"):
        applied(patch, old + b"x", len(new))
    with pytest.raises(device.PatchError, match="are wanted"):
        applied(patch, old, len(new) - 1)


def test_numbers_and_places_that_lie_are_refused() -> None:
    def patch(*numbers: int) -> bytes:
        return delta.assemble(delta._varints(list(numbers)), bytes(100), bytes(100))

    old = bytes(range(100))
    for numbers, words in {
        (100, 50, 60 << 3 | 1, 0): "more bytes",
        (100, 50, 50 << 3 | 1, 120): "past its base",
        (100, 50, 50 << 3 | 1, 1): "past its base",
        (100, 50, 50 << 3 | 7, 0): "does not know",
        (100, 50, 50 << 3 | 4, 0): "does not know",  # 50 bytes are no integers of 4
        (100, 50, 20 << 3 | 1, 0): "ends early",
        (100, 50, 1 << 70): "too large",
        (100, 200, 200 << 3): "too short",
        (): "another base",
    }.items():
        with pytest.raises(device.PatchError, match=words):
            applied(patch(*numbers), old, numbers[1] if len(numbers) > 1 else 0)


def test_memory_is_bounded(weights: dict[str, np.ndarray]) -> None:
    """An xz stream that wants a dictionary of 64 MiB is refused, and a chunk is the most that is held at once."""
    import lzma

    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
    big = lzma.compress(bytes(1 << 20), filters=filters)
    patch = bytearray(delta.assemble(delta._varints([0, 1 << 20, 1 << 23]), b"", b""))
    third = len(device.MAGIC) + 10
    (length,) = struct.unpack("<I", patch[third + 1 : third + 5])
    patch[len(patch) - length :] = big
    patch[third : third + 5] = b"\0" + struct.pack("<I", len(big))
    with pytest.raises(device.PatchError, match="limit"):
        applied(bytes(patch), b"", 1 << 20)
    old = model({"w": np.zeros((1 << 10, 1 << 9), np.int8)})
    new = model({"w": np.ones((1 << 10, 1 << 9), np.int8)})
    sizes: list[int] = []
    device.apply(
        io.BytesIO(delta.encode(old, new)), io.BytesIO(old), lambda part: sizes.append(len(part)), size=len(new)
    )
    assert max(sizes) <= device.CHUNK and sum(sizes) == len(new)


@pytest.mark.parametrize("places", [1, 50, 200, 5000])
def test_few_changes_in_weights_that_do_not_repeat(places):
    """Terms that Huffman's codes serve best: inflate then owes output when all of its input is taken."""
    rng = np.random.default_rng(places)
    old = rng.integers(-9, 9, 200_000, np.int8)
    new = old.copy()
    new[rng.choice(len(new), places, replace=False)] += 1
    patch = delta.encode(old.tobytes(), new.tobytes())
    assert len(patch) < 100 + 4 * places


def test_what_has_nothing_in_common_is_given_up_before_it_is_compressed():
    old, new = (np.random.default_rng(seed).integers(-90, 90, 1_200_000, dtype=np.int8).tobytes() for seed in (1, 2))
    with pytest.raises(delta.TooLargeError):
        delta.encode(old, new, most=int(0.7 * len(new)))


def test_what_is_worth_it_is_the_same_patch_with_a_limit():
    rng = np.random.default_rng(3)
    old = rng.integers(-90, 90, 1_200_000, dtype=np.int8)
    new = old + (rng.random(len(old)) < 0.3).astype(np.int8)
    pair = old.tobytes(), new.tobytes()
    assert delta.encode(*pair, most=int(0.7 * len(new))) == delta.encode(*pair)
