"""Version ranges, compared with `packaging` where it is installed."""

from __future__ import annotations

import contextlib
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.bundle import version

numbers = st.integers(0, 30)
versions = st.builds(
    lambda release, pre, post, dev: ".".join(map(str, release)) + pre + post + dev,
    st.lists(numbers, min_size=1, max_size=4),
    st.sampled_from(["", "a1", "b2", "rc1"]),
    st.sampled_from(["", ".post1"]),
    st.sampled_from(["", ".dev3"]),
)


@pytest.mark.parametrize(
    "have, wanted, fits",
    [
        ("1.32.0", ">=1.18,<2", True),
        ("1.17.3", ">=1.18,<2", False),
        ("2.0.0", ">=1.18,<2", False),
        ("2.0.0rc1", ">=1.18,<2", False),  # a pre-release of the bound is not below it
        ("1.18", ">=1.18", True),
        ("1.18.0", "==1.18", True),
        ("1.18.0+cpu", "==1.18", True),
        ("1.18.1", "!=1.18.0", True),
        ("1.18.0.post1", ">1.18", False),
        ("1.18.0.post2", ">1.18.post1", True),
        ("1.18rc1.post1", ">1.18rc1", False),
        ("1.18rc1", "<1.18.post1", True),
        ("1.18.post1", ">1.18.dev1", True),
        ("1.18.post1.dev1", "<1.18.post1", False),
        ("1.18rc1", "<1.18rc2", True),
        ("1.19.0.dev1", ">1.18", True),
        ("1.0", "", True),
        ("1.10", ">1.9", True),
    ],
)
def test_within(have, wanted, fits):
    assert version.within(have, wanted) is fits


@pytest.mark.parametrize(
    "text", ["1.18", ">=", "~=1.2", ">=1.18;x", ">= 1.18 <2", ">=1.*", ">=1," * 100, ">=" + "1." * 40, ">=1,,<2"]
)
def test_ranges_that_are_none(text):
    with pytest.raises(ValueError):
        version.parse(text)


@settings(max_examples=300)
@given(versions, st.sampled_from(version.OPERATORS), versions)
def test_agrees_with_packaging(have, operator, want):
    specifiers = pytest.importorskip("packaging.specifiers")
    expected = specifiers.SpecifierSet(operator + want, prereleases=True).contains(have)
    assert version.within(have, operator + want) == expected


def test_agrees_with_packaging_within_one_release():
    """Where pre-, post- and development releases of a bound count, and where not: every pair of them."""
    specifiers = pytest.importorskip("packaging.specifiers")
    family = ["1.0" + "".join(parts) for parts in product(["", "a1", "rc2"], ["", ".post1", ".post2"], ["", ".dev3"])]
    for operator, want in product("<>", family):
        expected = specifiers.SpecifierSet(operator + want, prereleases=True)
        for have in family:
            assert version.within(have, operator + want) == expected.contains(have), (have, operator, want)


@settings(max_examples=200)
@given(st.text(max_size=30))
def test_any_text_parses_or_is_a_value_error(text):
    for parse in (version.key, version.parse):
        with contextlib.suppress(ValueError):
            parse(text)
