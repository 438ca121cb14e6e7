"""Root envelopes changed at random: none is followed, and whatever it is, the error is ours."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgec_runtime.errors import TrustError
from edgec_runtime.trust import metadata, rotate
from tests.runtime.conftest import canonical
from tests.trust import made_roots as made

GOOD = made.root(2, release=(2,))
NOISE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=8).map(repr),
    st.sampled_from([[], {}, [[]], "A" * 44, 2**31, made.key_id(11), made.key_id(21), "2026-01-01T00:00:00Z"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """followed(envelope): whether a device with version 1 follows it. It trusts version 1 again afterwards."""
    where = tmp_path_factory.mktemp("device")
    rotate.pin(made.root(), root=where)
    pinned = where / "trust" / "root.dsse"
    first = pinned.read_bytes()

    def ask(data: bytes) -> bool:
        try:
            version = rotate.update([data], root=where)
        except TrustError as error:
            assert error.code.startswith("E5") and error.why
            # The disk holds what it held; only authentic metadata that has expired is kept although it is refused.
            assert pinned.read_bytes() == first or error.code == "E513"
            pinned.write_bytes(first)
            return False
        changed = pinned.read_bytes() != first
        pinned.write_bytes(first)
        return changed and version == 2

    assert ask(GOOD)
    return ask


def says_the_same(data: bytes) -> bool:
    """True where a change left what is said and who signed it: spaces between JSON's parts, the order of signatures."""
    try:
        found = metadata.parse(data).envelope
    except TrustError:
        return False
    good = metadata.parse(GOOD).envelope
    return found.payload == good.payload and set(found.signatures) >= set(good.signatures)


@settings(max_examples=650)
@given(data=st.data())
def test_bytes_changed(followed: Any, data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "remove", "copy"]))
        if kind == "flip":
            raw[at] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del raw[at + 1 :]
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        elif kind == "remove":
            del raw[at : at + data.draw(st.integers(1, 8))]
            raw = raw or bytearray(b"x")
        else:
            end = data.draw(st.integers(at, len(raw)))
            raw[at:at] = raw[at:end]
    changed = bytes(raw)
    assume(not says_the_same(changed))
    assert not followed(changed)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in children for p in places(child, (*path, key)))]


def change(data: st.DataObject, value: Any) -> Any:
    """One place of a JSON value replaced, taken out, doubled, or given another's value."""
    value = copy.deepcopy(value)
    *path, last = data.draw(st.sampled_from(places(value)[1:]))
    parent = value
    for key in path:
        parent = parent[key]
    kind = data.draw(st.sampled_from(["replace", "remove", "add", "move"]))
    if kind == "remove":
        del parent[last]
    elif kind == "add" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[last]))
    elif kind == "add":
        parent[data.draw(st.sampled_from(["x", "root", "keys", made.key_id(21)]))] = data.draw(NOISE)
    elif kind == "move":
        other = value
        for key in data.draw(st.sampled_from(places(value)[1:])):
            other = other[key]
        parent[last] = copy.deepcopy(other)
    else:
        parent[last] = data.draw(NOISE)
    return value


def dumped(value: Any) -> bytes:
    try:
        return canonical(value)
    except (UnicodeEncodeError, RecursionError, ValueError):
        assume(False)
        raise


@settings(max_examples=450)
@given(data=st.data())
def test_the_envelope_changed(followed: Any, data: st.DataObject) -> None:
    changed = dumped(change(data, json.loads(GOOD)))
    assume(not says_the_same(changed))
    assert not followed(changed)


@settings(max_examples=450)
@given(data=st.data())
def test_the_content_changed_under_the_old_signatures(followed: Any, data: st.DataObject) -> None:
    value = json.loads(GOOD)
    content = dumped(change(data, json.loads(base64.b64decode(value["payload"]))))
    changed = canonical({**value, "payload": base64.b64encode(content).decode()})
    assume(not says_the_same(changed))
    assert not followed(changed)


@settings(max_examples=450, suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_content_signed_by_too_few(followed: Any, data: st.DataObject) -> None:
    """Whoever has one root key, a release key, and keys of their own may write what they like."""
    content = made.payload(
        data.draw(st.sampled_from([2, 2, 2, 1, 3])),
        root=data.draw(st.lists(st.sampled_from([11, 12, 13, 21, 22]), min_size=1, max_size=4, unique=True)),
        threshold=data.draw(st.integers(0, 3)),
        release=data.draw(st.lists(st.sampled_from([1, 2, 21]), min_size=1, max_size=2, unique=True)),
    )
    if data.draw(st.booleans()):
        content = change(data, content)
    signers = data.draw(st.lists(st.sampled_from([11, 1, 2, 21, 22]), max_size=5, unique=True))
    assert not followed(made.envelope(dumped(content), signers))


@settings(max_examples=150)
@given(data=st.data())
def test_broken_content_signed_by_all(followed: Any, data: st.DataObject) -> None:
    """Enough keys signed it: it is followed if it is well formed, else refused without a crash."""
    content = dumped(change(data, made.payload(2)))
    envelope = made.envelope(content, (11, 12, 13))
    try:
        metadata.parse(envelope)
    except TrustError:
        assert not followed(envelope)
    else:
        followed(envelope)
