"""Every crash state of the device's own code recovers: one working current version, nothing acknowledged lost.

The laboratory must also find what is bad: the same code with a step of its protocol left out (`crash_mutations`).
"""

from __future__ import annotations

import pytest

from edgec_toolchains.crashlab import obstacle
from tests.flash.crash_mutations import MUTATIONS
from tests.flash.crash_run import in_a_process
from tests.flash.crash_scenarios import SCENARIOS

OBSTACLE = obstacle()
pytestmark = pytest.mark.skipif(bool(OBSTACLE), reason=f"crash laboratory: {OBSTACLE}")

BOTH = ("first install", "third version", "manual rollback", "confirmation", "key rotation", "removal")
LEAST = {  # crash states, at least: so that a laboratory that sees less is seen (all: `benchmarks.crash_states`)
    "first install": 300, "update": 250, "third version": 280, "resumed transfer": 250, "update that fails": 250,
    "first install that fails": 300, "manual rollback": 60, "probation": 250, "confirmation": 60,
    "rollback of a probation": 60, "recovery": 140, "recovery that undoes": 110, "recovery of a probation": 15,
    "recovery of half a transfer": 15, "collection": 25, "removal": 60, "room made": 270, "key rotation": 180,
}  # fmt: skip
CASES = [(name, "ordered") for name in SCENARIOS] + [(name, "writeback") for name in BOTH]


def test_the_least_are_more_than_a_thousand() -> None:
    assert set(LEAST) == set(SCENARIOS) and sum(LEAST[name] for name, _ in CASES) > 1000


@pytest.mark.parametrize(("name", "file_system"), CASES)
def test_every_crash_state_recovers(name: str, file_system: str) -> None:
    found = in_a_process("crash_run", name, file_system, "1")
    assert found["problems"] == {} and found["bad"] == 0
    assert found["crashes"] >= LEAST[name] and found["contents"] > 1


@pytest.mark.parametrize("mutation", [name for name in MUTATIONS if name])
def test_a_step_that_is_left_out_is_found(mutation: str) -> None:
    found = in_a_process("crash_run", "third version", "ordered", "0", mutation)
    assert found["bad"] > 0
    assert not any("can't be mounted" in problem for problem in found["problems"])
