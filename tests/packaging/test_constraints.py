"""constraints.txt pins the whole development environment, and pyproject.toml's ranges are wider than the pins."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.environments import OWN, required

ROOT = Path(__file__).parents[2]
APART = {"distill", "tvm"}  # heavy frameworks: pinned where they are stated, and never in the development environment


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def projects() -> list[dict[str, object]]:
    return [tomllib.loads((ROOT / p).read_text()) for p in ("pyproject.toml", "runtime/pyproject.toml")]


def stated() -> list[str]:
    """Every requirement that either distribution states, extras and build backends included."""
    lines: list[str] = []
    for project in projects():
        table = project["project"]
        lines += table["dependencies"]  # type: ignore[index]
        for name, extra in table.get("optional-dependencies", {}).items():  # type: ignore[attr-defined]
            lines += [] if name in APART else extra
        lines += project["build-system"]["requires"]  # type: ignore[index]
    return lines


def test_every_pin_is_exact() -> None:
    for requirement in pins().values():
        (specifier,) = requirement.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, requirement


@pytest.mark.parametrize("step", ["stated", "transitive"])
def test_everything_that_the_environment_needs_is_pinned(step: str) -> None:
    names = {canonicalize_name(Requirement(line).name) for line in stated()} - OWN
    if step == "transitive":
        names = required(stated())
    assert names - set(pins()) == set()


def test_the_pins_are_what_runs_here() -> None:
    """These tests ran with the releases that the file names (`make setup` honours it)."""
    names = required(stated())
    different = {name: version(name) for name in names if version(name) not in pins()[name].specifier}
    assert different == {}


def test_the_pins_lie_within_the_ranges_that_users_get() -> None:
    for requirement in map(Requirement, stated()):
        name = canonicalize_name(requirement.name)
        if name in OWN:
            continue
        (specifier,) = pins()[name].specifier
        assert specifier.version in requirement.specifier, requirement


def test_heavy_extras_are_pinned_where_they_are_stated() -> None:
    extras = projects()[0]["project"]["optional-dependencies"]  # type: ignore[index]
    for name in APART:
        assert all([s.operator for s in Requirement(line).specifier] == ["=="] for line in extras[name])


def test_the_models_are_pinned() -> None:
    for line in (ROOT / "models.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            assert [s.operator for s in Requirement(line).specifier] == ["=="], line
