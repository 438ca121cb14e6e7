"""A process that dies, a disk that is full, broken or read-only, at every call that changes the disk, in every program.

The idea is Mender's (`kill -9` in every state of its state machine, 95 named cases); here the states are the calls.
"""

from __future__ import annotations

import pytest

from tests.flash.crash_run import in_a_process
from tests.flash.crash_scenarios import SCENARIOS

KILLED = {  # scenario -> named cases at least; the others, with every fault: `benchmarks.crash_states`
    "first install": 60, "third version": 60, "update that fails": 55, "manual rollback": 6,
    "confirmation": 8, "rollback of a probation": 6, "recovery that undoes": 30, "recovery of a probation": 6,
    "collection": 8, "removal": 10, "pinning": 8, "device key": 5, "delta": 60, "key rotation": 25,
}  # fmt: skip
FAULTY = ("confirmation", "recovery that undoes", "device key", "delta", "key rotation")


def check(name: str, fault: str, least: int) -> None:
    found = in_a_process("kill_run", name, fault)
    assert found["problems"] == {}
    assert len(found["cases"]) == len(set(found["cases"])) >= least


def test_the_matrix_is_larger_than_the_anchors() -> None:
    assert sum(KILLED.values()) >= 95 and KILLED.keys() <= SCENARIOS.keys()


@pytest.mark.parametrize("name", KILLED)
def test_killed_before_every_change(name: str) -> None:
    check(name, "killed", KILLED[name])


@pytest.mark.parametrize("name", ["update that fails", "key rotation"])
def test_killed_in_the_middle_of_every_write(name: str) -> None:
    check(name, "torn", 6)


@pytest.mark.parametrize("fault", ["full", "broken", "read-only"])
@pytest.mark.parametrize("name", FAULTY)
def test_the_disk_fails_at_every_change(name: str, fault: str) -> None:
    check(name, fault, KILLED[name])


def test_the_matrix_finds_a_state_that_is_written_in_place() -> None:
    found = in_a_process("kill_run", "update", "killed", "written in place")
    assert any("damaged" in problem for problem in found["problems"].values())
