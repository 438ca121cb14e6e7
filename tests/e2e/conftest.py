"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Nothing may be printed, by Python or by an engine's C++."""
    yield
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""
