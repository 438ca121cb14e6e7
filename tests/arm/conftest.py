"""The slow suite of the emulated ARM cores: `make test-arm` sets it up and runs it; elsewhere it is skipped."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from edgec_toolchains import aarch64


@pytest.fixture(scope="session")
def core() -> Callable[[str], aarch64.Core]:
    """`core("cortex-a76")`; skipped where nobody asked for the test bed, which is a download of 80 MB."""
    if not os.environ.get(aarch64.VARIABLE):
        pytest.skip(f"make test-arm runs this (it sets {aarch64.VARIABLE})")
    return aarch64.core


@pytest.fixture(scope="session")
def a76(core: Callable[[str], aarch64.Core]) -> aarch64.Core:
    return core("cortex-a76")
