"""JSON that two readers could read differently is refused."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.bundle import strictjson

LIMIT = 1 << 20
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200)
@given(values)
def test_what_json_writes_is_read_back(value):
    for ascii_only in (True, False):
        try:
            data = json.dumps(value, ensure_ascii=ascii_only).encode()
        except UnicodeEncodeError:
            continue
        assert strictjson.loads(data, limit=LIMIT) == value


@pytest.mark.parametrize(
    "text, why",
    [
        ('{"a": 1, "a": 2}', "same key twice"),
        ('{"a": {"b": 1, "b": 1}}', "same key twice"),
        (r'{"a": 1, "\u0061": 2}', "same key twice"),
        ("NaN", "not JSON"),
        ("[Infinity]", "not JSON"),
        ("[-Infinity]", "not JSON"),
        ("1e999", "out of range"),
        ("9007199254740992", "out of range"),
        ("-9007199254740992", "out of range"),
        ("1" * 5000, "out of range"),
        ("0." + "1" * 5000, "out of range"),
        (r'"\ud800"', "lone surrogate"),
        (r'{"\udfff": 1}', "lone surrogate"),
        ("[1] [2]", "Extra data"),
        ("", "Expecting value"),
        ("[1,]", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("\ufeff[]", "not JSON"),
        ("[" * 33 + "]" * 33, "nested deeper"),
        ("[" * 100_000 + "]" * 100_000, "nested deeper"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested deeper"),
        ('"a\nb"', "not JSON"),
    ],
)
def test_refused(text, why):
    with pytest.raises(ValueError, match=why):
        strictjson.loads(text.encode(), limit=LIMIT)


def test_depth_of_exactly_the_limit_passes():
    text = "[" * strictjson.MAX_DEPTH + "]" * strictjson.MAX_DEPTH
    assert strictjson.loads(text.encode(), limit=LIMIT) is not None


def test_size_and_encoding():
    with pytest.raises(ValueError, match="more than 4"):
        strictjson.loads(b"[1,2]", limit=4)
    with pytest.raises(ValueError, match="UTF-8"):
        strictjson.loads(b'"\xff"', limit=LIMIT)


@settings(max_examples=400)
@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:0123456789eE+-.truefalsn\\u d8', max_size=60).map(str.encode))
def test_any_bytes_give_a_value_or_value_error(data):
    with contextlib.suppress(ValueError):
        strictjson.loads(data, limit=LIMIT)
