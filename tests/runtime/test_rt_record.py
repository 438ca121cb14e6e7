"""The ready record's reader gives what json.loads gives, and refuses what it refuses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.slots import record

numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150)
@given(values)
def test_it_reads_what_json_writes(value: object) -> None:
    assert record.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": }', b"{} x", b"nope", b"\xff", b'{"a": "\n"}'])
def test_what_is_no_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        record.loads(data)


def test_an_installed_app_starts_without_the_json_package() -> None:
    import subprocess
    import sys

    code = "import sys; from edgec_runtime.slots import record; record.loads(b'[1, 2.5]'); print('json' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
