"""A version that passed its trial and waits to be confirmed: deadlines, restarts, confirming, going back."""

from __future__ import annotations

import pytest

import edgec_runtime as rt
from edgec_runtime.errors import MissingError, RolledBackError, UsageError
from edgec_runtime.slots import boot, status
from edgec_runtime.slots.confirm import confirm
from edgec_runtime.slots.recover import recover
from edgec_runtime.slots.rollback import rollback
from tests.slots.conftest import release


@pytest.fixture
def clock(monkeypatch):
    """The boot and its clock, as the test sets them."""

    class Clock:
        boot, now = "b001", 1000.0

    monkeypatch.setattr(boot, "boot_id", lambda: Clock.boot)
    monkeypatch.setattr(boot, "now", lambda: Clock.now)
    return Clock


def test_probation_gives_the_new_version_until_the_deadline(device, well, clock):
    device.install(release(1))
    outcome = device.install(release(2, "Mul"), confirm="manual", deadline=30.0)
    assert (outcome.result, outcome.version) == ("probation", "2.0")
    assert device.runs() == "2.0 Mul" and device.state().active == "a"
    assert status.status("tiny")[0]["remaining_s"] == 30.0
    clock.now += 29.9
    assert device.runs() == "2.0 Mul" and recover() == []
    clock.now += 0.2
    assert device.runs() == "1.0 Add"  # without anybody writing anything
    assert "over" in status.status("tiny")[0]["problem"]
    with pytest.raises(RolledBackError) as caught:
        confirm("tiny")
    assert caught.value.code == "E710" and caught.value.exit_code == 7
    assert device.state().phase == "none" and device.runs() == "1.0 Add"
    with pytest.raises(RolledBackError):
        confirm("tiny")


def test_what_is_confirmed_is_committed(device, well, clock):
    device.install(release(1))
    device.install(release(2, "Mul"), confirm="manual")
    assert confirm("tiny").version == "2.0"
    clock.now += 1e6
    state = device.state()
    assert (state.active, state.phase, state.until, state.boot) == ("b", "none", 0.0, "-")
    assert device.runs() == "2.0 Mul" and confirm("tiny").result == "committed"


def test_a_restart_during_probation_falls_back_until_recover_begins_it_anew(device, well, clock):
    device.install(release(1))
    device.install(release(2, "Mul"), confirm="manual", deadline=30.0, tries=3)
    for tries in (1, 0):
        clock.boot, clock.now = clock.boot + "1", 5.0
        assert device.runs() == "1.0 Add"
        assert [outcome.result for outcome in recover()] == ["probation"]
        assert device.state().tries == tries and device.runs() == "2.0 Mul"
    clock.boot = "b002"
    assert [outcome.code for outcome in recover()] == ["E709"]
    assert device.runs() == "1.0 Add"


def test_a_restart_is_seen_where_all_boots_have_the_same_id(device, well, clock):
    """Without /proc: the clock that began again says it."""
    clock.boot, clock.now = "unknown", 5e6
    device.install(release(1))
    device.install(release(2, "Mul"), confirm="manual", deadline=123456.4)
    assert device.runs() == "2.0 Mul"
    clock.now = 20.0
    assert device.runs() == "1.0 Add"
    assert [outcome.code for outcome in recover()] == ["E710"]


def test_a_first_version_whose_probation_ends(device, well, clock):
    device.install(release(1), confirm="manual", deadline=5)
    assert device.runs() == "1.0 Add"
    clock.now += 6
    with pytest.raises(MissingError, match="no version to load") as caught:
        rt.load(app="tiny")
    assert "not confirmed in time" in caught.value.why
    assert device.install(release(1)).result == "committed" and device.runs() == "1.0 Add"


def test_probation_is_decided_before_another_version_comes(device, well, clock):
    device.install(release(1))
    device.install(release(2, "Mul"), confirm="manual")
    with pytest.raises(UsageError, match="probation"):
        device.send(release(3, "Max"))
    clock.now += 100
    assert device.install(release(3, "Max")).result == "committed" and device.runs() == "3.0 Max"


def test_rollback_ends_a_trial_and_a_probation(device, well, clock):
    device.install(release(1))
    device.send(release(2, "Mul"))
    assert rollback("tiny").version == "1.0" and device.state().phase == "none"
    device.install(release(2, "Mul"), confirm="manual")
    assert device.runs() == "2.0 Mul"
    assert rollback("tiny").version == "1.0" and device.runs() == "1.0 Add"


def test_confirming_what_is_on_trial_or_not_there(device, well):
    with pytest.raises(MissingError):
        confirm("tiny")
    device.send(release(1))
    with pytest.raises(UsageError) as caught:
        confirm("tiny")
    assert caught.value.code == "E203"
