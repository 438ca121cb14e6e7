"""Every crash state of the device's own code recovers: one working current version, nothing acknowledged lost.

The laboratory must also find what is bad: the same code with a step of its protocol left out (`crash_mutations`).
"""

from __future__ import annotations

import pytest

from edgec_toolchains.crashlab import FILE_SYSTEMS, obstacle
from tests.flash.crash_mutations import MUTATIONS
from tests.flash.crash_run import in_a_process
from tests.flash.crash_scenarios import SCENARIOS

OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"crash laboratory: {OBSTACLE}")

LEAST = {  # crash states at least: so that a laboratory that sees less is seen (all: `benchmarks.crash_states`)
    "first install": 80, "update": 65, "third version": 65, "resumed transfer": 65, "update that fails": 55,
    "first install that fails": 75, "manual rollback": 25, "probation": 65, "confirmation": 25,
    "rollback of a probation": 25, "recovery": 40, "recovery that undoes": 35,
    "recovery of two apps": 60, "recovery of a probation": 25,
    "recovery of half a transfer": 12, "collection": 12, "removal": 20, "room made": 70, "delta": 65,
    "security floor": 65, "pinning": 20,
    "device key": 20, "key rotation": 45,
}  # fmt: skip
CASES = [(name, system.name) for name in SCENARIOS for system in FILE_SYSTEMS]


def test_the_least_are_more_than_a_thousand() -> None:
    assert set(LEAST) == set(SCENARIOS) and sum(LEAST[name] for name, _ in CASES) > 1000


@pytest.mark.parametrize(("name", "file_system"), CASES)
def test_every_crash_state_recovers(name: str, file_system: str) -> None:
    found = in_a_process("crash_run", name, file_system, "few")
    assert found["problems"] == {} and found["bad"] == 0
    assert found["crashes"] >= LEAST[name] and found["contents"] > 1


@pytest.mark.parametrize("mutation", [name for name in MUTATIONS if name])
def test_a_step_that_is_left_out_is_found(mutation: str) -> None:
    found = in_a_process("crash_run", "third version", "ordered", "few", mutation)
    assert found["bad"] > 0
    assert not any("can't be mounted" in problem for problem in found["problems"])
