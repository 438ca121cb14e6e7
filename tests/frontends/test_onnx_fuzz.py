"""Whatever the bytes: the ONNX front end gives a model or one BadInputError, in bounded memory and time."""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgec import frontends
from edgec.errors import BadInputError

CASES = int(os.environ.get("EDGEC_FUZZ_CASES", "5000"))
"""Byte mutations over all seeds; a longer hunt sets the variable."""

GROWTH = 512 << 20
"""Bytes that this process may grow by over a fuzzing test (onnx's C++ has a process and a limit of its own)."""


def _model(nodes: list[onnx.NodeProto], inputs: list, outputs: list, weights: list = [], **more: object) -> bytes:  # noqa: B006
    opset = more.pop("opset", 21)
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), *more.pop("imports", [])], **more)
    made.ir_version = 8
    return made.SerializeToString()


def _f(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _w(name: str, *shape: int) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)


def conv() -> bytes:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["y"], axis=1),
    ]
    return _model(nodes, [_f("x", "n", 1, 4, 4)], [_f("y", "n", 2)], [_w("w", 2, 1, 3, 3)], opset=13)


def old() -> bytes:
    nodes = [
        helper.make_node("Upsample", ["x"], ["a"], scales=[1.0, 1.0, 2.0, 2.0], mode="nearest"),
        helper.make_node("Pad", ["a"], ["b"], pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        helper.make_node("Softmax", ["b"], ["y"], axis=1),
    ]
    return _model(nodes, [_f("x", 1, 1, 2, 2)], [_f("y", 1, 1, 6, 6)], opset=8)


def branches() -> bytes:
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["t"])], "then", [], [_f("t", 2)])
    other = helper.make_graph([helper.make_node("Add", ["x", "w"], ["e"])], "else", [], [_f("e", 2)])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    return _model(nodes, [_f("x", 2)], [_f("y", 2)], [_w("w", 2)], opset=17)


def functions() -> bytes:
    add = helper.make_node("Add", ["a", "a"], ["b"], name="add")
    body = helper.make_function("own", "Twice", ["a"], ["b"], [add], [helper.make_opsetid("", 18)])
    nodes = [helper.make_node("Twice", [i], [o], domain="own") for i, o in ("xh", "hy")]
    imports = [helper.make_opsetid("own", 1)]
    return _model(nodes, [_f("x", 2)], [_f("y", 2)], opset=18, imports=imports, functions=[body])


def shapes() -> bytes:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Constant", [], ["one"], value_ints=[1]),
        helper.make_node("Gather", ["s", "one"], ["n"]),
        helper.make_node("Concat", ["n", "one"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    return _model(nodes, [_f("x", 1, 5)], [_f("y", 5, 1)], opset=23)


SEEDS: list[Callable[[], bytes]] = [conv, old, branches, functions, shapes]


def outcome(data: bytes) -> str:
    """ "model" or the error's code; anything else that comes out fails the test."""
    try:
        imported = frontends.load(data)
    except BadInputError as error:
        assert error.what
        return error.code
    assert imported.model.graph.outputs
    return "model"


def mutate(data: bytes, random_: random.Random) -> bytes:
    """One to four changes: bits, bytes, extreme bytes, cut, doubled or swapped ranges, another length."""
    changed = bytearray(data)
    for _ in range(random_.choice((1, 1, 1, 2, 4))):
        at = random_.randrange(len(changed)) if changed else 0
        end = min(len(changed), at + random_.randrange(1, 24))
        match random_.randrange(7):
            case 0 if changed:
                changed[at] ^= 1 << random_.randrange(8)
            case 1 if changed:
                changed[at] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
            case 2:
                del changed[at:end]
            case 3:
                changed[at:at] = changed[at:end]
            case 4:
                changed[at:at] = b"\xff" * random_.randrange(1, 10)
            case 5:
                del changed[at:]
            case _:
                other = random_.randrange(len(changed) + 1)
                changed[other:other] = changed[at:end]
    return bytes(changed)


@pytest.fixture(autouse=True)
def bounded() -> object:
    """Fails a test after which this process had grown by more than `GROWTH`."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield None
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH


@pytest.mark.parametrize("seed", SEEDS, ids=lambda f: f.__name__)
def test_seed_is_a_good_model(seed: Callable[[], bytes]) -> None:
    assert outcome(seed()) == "model"


@pytest.mark.parametrize("seed", SEEDS, ids=lambda f: f.__name__)
def test_mutated_bytes(seed: Callable[[], bytes]) -> None:
    random_, data = random.Random(seed.__name__), seed()
    seen = {outcome(mutate(data, random_)) for _ in range(CASES // len(SEEDS))}
    assert len(seen) >= 4, "the mutations should reach several of the checks"


@pytest.mark.parametrize("seed", SEEDS, ids=lambda f: f.__name__)
def test_every_truncation(seed: Callable[[], bytes]) -> None:
    data = seed()
    for end in range(len(data)):
        outcome(data[:end])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_random_bytes(data: bytes) -> None:
    assert outcome(data) != "model"


EXTREME = st.sampled_from([-(2**63), -(2**31), -2, -1, 0, 1, 2, 255, 2**16, 2**31, 2**40, 2**62, 2**63 - 1])
FIELDS = onnx.TensorProto.DESCRIPTOR.file.message_types_by_name


@given(st.data(), st.sampled_from(SEEDS))
@settings(max_examples=500)
def test_well_formed_protobuf_with_absurd_fields(data: st.DataObject, seed: Callable[[], bytes]) -> None:
    """Changes that byte mutations seldom reach: any field of any message set to an extreme, emptied or repeated."""
    proto = onnx.ModelProto.FromString(seed())
    message = proto
    for _ in range(data.draw(st.integers(0, 6))):
        inner = _inner(message)
        if not inner:
            break
        message = inner[data.draw(st.integers(0, len(inner) - 1))]
    field = data.draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    _change(message, field, data)
    outcome(proto.SerializeToString())


def _inner(message: object) -> list:
    found = []
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += list(value) if field.is_repeated else [value]
    return found


def _change(message: object, field: object, data: st.DataObject) -> None:
    name = field.name
    kind = field.cpp_type
    several = field.message_type is not None and field.is_repeated and len(getattr(message, name)) > 0
    if several and data.draw(st.booleans()):
        getattr(message, name).add().CopyFrom(getattr(message, name)[0])
        return
    if field.message_type is not None:
        message.ClearField(name)
        if not field.is_repeated and data.draw(st.booleans()):
            getattr(message, name).SetInParent()
        return
    if kind in (field.CPPTYPE_INT32, field.CPPTYPE_INT64, field.CPPTYPE_UINT64, field.CPPTYPE_ENUM):
        value: object = data.draw(EXTREME)
        ranges = {field.CPPTYPE_INT64: (-(2**63), 2**63), field.CPPTYPE_UINT64: (0, 2**64)}
        low, high = ranges.get(kind, (-(2**31), 2**31))
        if not low <= value < high:
            value = 0
    elif kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = data.draw(st.sampled_from([0.0, -1.0, 1e38, float("nan"), float("inf")]))
    elif field.type == field.TYPE_BYTES:
        value = data.draw(st.binary(max_size=12))
    else:
        value = data.draw(st.sampled_from(["", "x", "w", "y", "\0", "com.microsoft", "../x", "é" * 40]))
    try:
        if field.is_repeated:
            values = getattr(message, name)
            if len(values) and data.draw(st.booleans()):
                values[data.draw(st.integers(0, len(values) - 1))] = value
            else:
                values.append(value)
        else:
            setattr(message, name, value)
    except ValueError:  # an enum value that python's protobuf refuses
        message.ClearField(name)


def test_mutated_headers_of_a_real_file() -> None:
    """The PP-OCR direction classifier: changes in its first and last 4 KB, where graph, names and shapes are."""
    path = Path(__file__).parents[2] / "build/models/rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
    if not path.exists():
        pytest.skip("the models that pip brings aren't there: make models")
    data, random_ = path.read_bytes(), random.Random(0)
    for _ in range(60):
        head = mutate(data[:4096], random_)
        tail = mutate(data[-4096:], random_)
        outcome(random_.choice((head + data[4096:], data[:-4096] + tail)))
