"""Addresses as people write them, and names that become parts of files."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.devices.address import Address, plain
from edgec.errors import UsageError


@pytest.mark.parametrize(
    "text, expected, name",
    [
        ("pi@10.0.0.7", Address("10.0.0.7", "pi"), "10.0.0.7"),
        ("pi@board.lan:2222", Address("board.lan", "pi", 2222), "board"),
        ("ssh://root@board:22", Address("board", "root", 22), "board"),
        ("alias", Address("alias"), "alias"),
        ("pi@[fe80::1%eth0]:22", Address("fe80::1%eth0", "pi", 22), "fe80--1-eth0"),
    ],
)
def test_addresses(text, expected, name):
    assert Address.parse(text) == expected and expected.name == name
    assert Address.parse(str(expected)) == expected


@pytest.mark.parametrize("text", ["", "a b", "pi@", "host:0", "host:99999", "-oProxyCommand=x", "a/b", "u@-x", "a:b:c"])
def test_what_is_no_address(text):
    with pytest.raises(UsageError) as error:
        Address.parse(text)
    assert error.value.exit_code == 2


@settings(deadline=None, max_examples=200, derandomize=True)
@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_usage_error(text):
    try:
        found = Address.parse(text)
    except UsageError:
        return
    assert Address.parse(str(found)) == found and not found.host.startswith("-")


def test_the_command_that_a_person_types():
    assert Address.parse("pi@x:2222").command == "ssh -p 2222 pi@x" and Address.parse("x").command == "ssh x"


@pytest.mark.parametrize("name", ["", "../x", "-x", "a b", "x" * 65])
def test_names(name):
    with pytest.raises(UsageError):
        plain(name)
