"""How properties run is tests/conftest.py's to say; a test's own settings change how many examples, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = 7
GENERATOR = np.random.default_rng(0)
FIRST = np.random.default_rng(0).random()
PROBE = """
from hypothesis import given, settings, strategies as st

@settings(max_examples=4, derandomize={derandomize}, deadline=1)
@given(st.integers())
def test_probe(number):
    print("example", number)
"""


class TestInThisRun:
    @settings(max_examples=EXAMPLES, deadline=1, derandomize=False)
    @given(st.integers())
    def test_what_a_test_says_of_time_and_chance_does_not_count(self, number):
        now, profile = settings.default, settings.get_profile(settings.get_current_profile_name())
        assert now.deadline is None
        assert now.derandomize == profile.derandomize
        assert now.database is profile.database

    @settings(max_examples=EXAMPLES)
    @given(st.integers())
    def test_how_many_examples_counts(self, number):
        assert settings.default.max_examples in (EXAMPLES, EXAMPLES * 10)


def examples(folder: Path, profile: str, derandomize: bool) -> list[str]:
    """What a property of four examples was given, in a run of pytest of its own with the tests' conftest.py."""
    (folder / "test_probe.py").write_text(PROBE.format(derandomize=derandomize))
    (folder / "conftest.py").write_bytes((Path(__file__).parent / "conftest.py").read_bytes())
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", str(folder)],
        env={**os.environ, "HYPOTHESIS_PROFILE": profile},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in run.stdout.splitlines() if "example" in line]


def test_fixed_repeats_itself(tmp_path: Path):
    first = examples(tmp_path, "fixed", derandomize=False)
    assert first == examples(tmp_path, "fixed", derandomize=False)
    assert len(first) == 4


def test_explore_tries_more_and_something_else_each_time(tmp_path: Path):
    first, second = (examples(tmp_path, "explore", derandomize=True) for _ in range(2))
    assert len(first) == len(second) == 40
    assert first != second


@pytest.mark.parametrize("profile", ["fixed", "explore"])
def test_no_profile_fails_for_a_slow_machine(profile: str):
    assert settings.get_profile(profile).deadline is None


@pytest.mark.parametrize("run", [1, 2])
def test_a_modules_generator_starts_each_test_anew(run: int):
    assert GENERATOR.random() == FIRST
