"""What every test may use: the zoo and the registry's models where they are, folders of its own always.

And how properties are searched, for all tests in one place. `fixed`, the default: the same examples in every run, so
that a run that failed fails again. `explore` (`make fuzz`, or `HYPOTHESIS_PROFILE=explore`): other examples in every
run, `EXPLORE` times as many; what fails is kept in .hypothesis/ and tried first from then on. A test's own `@settings`
says how many examples the test is worth; what makes a run repeatable is the profile's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Before numpy is imported, and for the processes that tests start. Its threads wait by spinning: with a process a core
# (xdist) that more than doubles the time of whatever does linear algebra, and another number of them other last bits.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings
from hypothesis.database import DirectoryBasedExampleDatabase

ROOT = Path(__file__).parents[1]
EXPLORE = 10

# How long an example takes is the machine's doing: neither profile fails for it.
UNTIMED = settings(settings.get_profile("default"), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fixed", UNTIMED, derandomize=True, database=None)
settings.register_profile(
    "explore",
    UNTIMED,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"),
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each property runs by the profile, whatever its own settings say of what is the profile's.

    Hypothesis has no public way to change a test's settings; tests/test_properties.py fails if this one stops working.
    """
    profile = settings.get_profile(settings.get_current_profile_name())
    times = EXPLORE if settings.get_current_profile_name().startswith("explore") else 1
    functions = {item.function for item in items if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj)}
    for test in (getattr(function, "__func__", function) for function in functions):
        own = test._hypothesis_internal_use_settings
        test._hypothesis_internal_use_settings = settings(
            own,
            max_examples=own.max_examples * times,
            derandomize=profile.derandomize,
            database=profile.database,
            deadline=profile.deadline,
            print_blob=profile.print_blob,
            suppress_health_check={*own.suppress_health_check, *profile.suppress_health_check},
        )


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keys and the device root are never the user's own."""
    folder = tmp_path_factory.mktemp("edgec")
    monkeypatch.setenv("EDGEC_CONFIG", str(folder / "config"))
    monkeypatch.setenv("EDGEC_ROOT", str(folder / "root"))
    monkeypatch.setenv("EDGEC_CACHE", str(folder / "cache"))
    return folder


@pytest.fixture(autouse=True)
def same_numbers(request: pytest.FixtureRequest) -> None:
    """A module's generator starts each test where the import left it: what a test draws hangs on no test before it."""
    module, key = request.module, "_generators_after_import"
    if not hasattr(module, key):
        found = [value for value in vars(module).values() if isinstance(value, np.random.Generator)]
        setattr(module, key, [(generator, generator.bit_generator.state) for generator in found])
    for generator, state in getattr(module, key):
        generator.bit_generator.state = state


@pytest.fixture(scope="session")
def zoo() -> Callable[[str], Path]:
    """`zoo("resnet8_cifar10")` is a case's folder; the test is skipped where the zoo is absent."""
    root = Path(os.environ.get("EDGEC_ZOO", ROOT.parent / "shared" / "zoo"))

    def case(name: str) -> Path:
        if not (root / name / "model.onnx").is_file():
            pytest.skip(f"no zoo at {root} (set EDGEC_ZOO)")
        return root / name

    return case


@pytest.fixture(scope="session")
def pip_model() -> Callable[[str], Path]:
    """`pip_model("magika/models/standard_v3_3/model.onnx")`; skipped before `make models`."""

    def file(name: str) -> Path:
        path = ROOT / "build" / "models" / name
        if not path.is_file():
            pytest.skip(f"{path} is not there: make models")
        return path

    return file
