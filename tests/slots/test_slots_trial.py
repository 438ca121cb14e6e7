"""A version's way from the first byte to what loads get: trial, commit, going back."""

from __future__ import annotations

import hashlib

import pytest

import edgec_runtime as rt
from edgec_runtime.errors import MissingError, TrustError, UsageError
from edgec_runtime.slots import boot, incoming, remove, status
from edgec_runtime.slots.recover import recover
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.trial import trial
from tests.slots.conftest import ANSWERS, release


def test_a_version_that_is_well_is_committed_by_a_real_check(device):
    outcome = device.install(release(1))
    assert (outcome.result, outcome.version, outcome.why, outcome.code) == ("committed", "1.0", "", "")
    (payload,) = outcome.health["payloads"]
    assert payload["result"] == "passed" and payload["sqnr_db"] == 200.0 and payload["latency_us"] > 0
    assert device.runs() == "1.0 Add"
    assert device.state().latency == {"onnxruntime-float32-host": payload["latency_us"]}


def test_until_the_trial_is_over_loads_get_the_version_before(device, well):
    device.install(release(1))
    device.send(release(2, "Mul"))
    state = device.state()
    assert (state.phase, state.active, state.pending, state.tries) == ("trial", "a", "b", 3)
    assert device.runs() == "1.0 Add"
    assert trial("tiny").result == "committed" and device.runs() == "2.0 Mul"
    assert trial("tiny").result == "committed"  # asked again: the answer may have been lost


def test_a_first_version_on_trial_is_not_loaded(device, well):
    device.send(release(1))
    with pytest.raises(MissingError) as caught:
        rt.load(app="tiny")
    assert caught.value.code == "E1002" and "on trial" in caught.value.why


def test_a_first_version_that_fails_leaves_nothing_but_the_reason(device, well):
    well.update(ok=False, code="E703", why="too slow")
    outcome = device.install(release(1))
    assert (outcome.result, outcome.version, outcome.code) == ("rolled-back", "", "E703")
    with pytest.raises(MissingError) as caught:
        rt.load(app="tiny")
    assert "too slow" in caught.value.why
    (told,) = status.status("tiny")
    assert (told["version"], told["why"], told["code"], told["phase"]) == ("", "too slow", "E703", "none")
    assert device.members() == set()


def test_a_version_that_fails_leaves_the_one_before(device, well):
    device.install(release(1))
    kept = device.members()
    well.update(ok=False, code="E702", why="wrong answers")
    outcome = device.install(release(2, "Mul"))
    assert (outcome.result, outcome.version, outcome.why) == ("rolled-back", "1.0", "wrong answers")
    assert device.runs() == "1.0 Add" and device.members() == kept
    state = device.state()
    assert (state.pending, state.other, state.why, state.previous_error) == ("-", "-", "wrong answers", "E702")
    assert trial("tiny").result == "rolled-back"  # asked again
    well.update(ok=True)
    assert device.install(release(3, "Max")).result == "committed" and device.state().why == ""


def test_what_is_active_sent_again_ends_the_story_of_a_rollback(device, well):
    device.install(release(1))
    well.update(ok=False, why="no", code="E702")
    device.install(release(2, "Mul"))
    assert device.install(release(1)).result == "committed" and device.state().why == ""


def test_tries_are_counted_before_anything_is_loaded_and_run_out(device, well, monkeypatch):
    device.install(release(1))
    device.send(release(2, "Mul"), tries=2)

    class PowerCutError(BaseException):
        pass

    def cut(*_, **__):
        raise PowerCutError

    from edgec_runtime.slots import health

    real = health.check
    monkeypatch.setattr(health, "check", cut)
    for left in (1, 0):
        with pytest.raises(PowerCutError):
            recover()
        assert device.state().tries == left and device.runs() == "1.0 Add"
    monkeypatch.setattr(health, "check", real)
    (outcome,) = recover()
    assert (outcome.result, outcome.code, outcome.version) == ("rolled-back", "E709", "1.0")
    assert recover() == []


def test_a_trial_that_was_cut_off_is_finished_at_the_next_start(device, well):
    device.send(release(1))
    (outcome,) = recover()
    assert (outcome.app, outcome.result) == ("tiny", "committed") and device.runs() == "1.0 Add"


def test_what_one_app_meets_keeps_none_of_the_others(device, well, monkeypatch):
    from edgec_runtime.slots import health

    device.send(release(1), app="first")
    device.send(release(1), app="second")

    def check(_, app, *__, **___):
        if app == "first":
            raise ZeroDivisionError("a bug")
        return health.Health(True, "", "", {}, {})

    monkeypatch.setattr(health, "check", check)
    assert [(o.app, o.result) for o in recover()] == [("first", "damaged"), ("second", "committed")]


def test_rollback_swaps_and_swaps_back(device, well):
    device.install(release(1))
    with pytest.raises(MissingError) as caught:
        rollback("tiny")
    assert caught.value.code == "E1006"
    device.install(release(2, "Mul"))
    outcome = rollback("tiny")
    assert (outcome.result, outcome.version, outcome.code) == ("rolled-back", "1.0", "E711")
    assert device.runs() == "1.0 Add" and status.status("tiny")[0]["other"]["version"] == "2.0"
    assert rollback("tiny").version == "2.0" and device.runs() == "2.0 Mul"


def test_rollback_while_the_check_is_under_way_wins(device, well, monkeypatch):
    from edgec_runtime.slots import health

    device.install(release(1))
    device.send(release(2, "Mul"))

    def check(*_, **__):
        rollback("tiny")
        return health.Health(True, "", "", {}, {})

    monkeypatch.setattr(health, "check", check)
    assert trial("tiny").code == "E711" and device.runs() == "1.0 Add"


@pytest.mark.parametrize("what", ["member", "ready.json", "manifest.dsse"])
def test_a_damaged_other_version_is_not_gone_back_to(device, well, what):
    first = release(1)
    device.install(first)
    slot = device.root / "apps" / "tiny" / "slots" / "a"
    before = device.members()
    device.install(release(2, "Mul"))
    path = slot / what
    if what == "member":
        import hashlib

        path = device.root / "store" / "sha256" / hashlib.sha256(first.files["golden/out.bin"]).hexdigest()
        assert path.name in before
        path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    state = device.state()
    with pytest.raises(TrustError):
        rollback("tiny")
    assert device.state() == state and device.runs() == "2.0 Mul"


def test_a_load_of_a_committed_app_asks_for_no_clock(device, well, monkeypatch):
    device.install(release(1))
    monkeypatch.setattr(boot, "boot_id", lambda: pytest.fail("asked"))
    monkeypatch.setattr(boot, "now", lambda: pytest.fail("asked"))
    assert device.runs() == "1.0 Add"


def test_answers_differ_between_the_models_of_these_tests():
    assert len({answer.tobytes() for answer in ANSWERS.values()}) == len(ANSWERS)


def test_a_trial_that_another_process_runs_is_waited_for(device, well, monkeypatch):
    """Asked for twice at once: one tries, both say how it ended; nothing else comes in meanwhile."""
    from threading import Event, Thread

    from edgec_runtime.slots import health

    device.install(release(1))
    device.send(release(2, "Mul"))
    begun, go_on, checks = Event(), Event(), []

    def check(*_, **__):
        checks.append(1)
        begun.set()
        assert go_on.wait(60)
        return health.Health(True, "", "", {}, {})

    monkeypatch.setattr(health, "check", check)
    said = []
    one = Thread(target=lambda: said.append(trial("tiny", root=device.root)))
    one.start()
    assert begun.wait(60)
    two = Thread(target=lambda: said.append(trial("tiny", root=device.root)))
    two.start()
    with pytest.raises(UsageError) as caught:
        device.send(release(3, "Max"))
    assert caught.value.code == "E202" and device.gets() == "1.0 Add"
    with pytest.raises(UsageError):
        remove.remove("tiny")
    go_on.set()
    one.join()
    two.join()
    assert [(outcome.result, outcome.version) for outcome in said] == [("committed", "2.0")] * 2 and len(checks) == 1


def test_a_slot_that_is_damaged_can_be_left_by_going_back(device, well):
    device.install(release(1))
    device.install(release(2, "Mul"))
    (device.root / "apps" / "tiny" / "slots" / "b" / "ready.json").write_bytes(b"{}")
    with pytest.raises(TrustError):
        device.gets()
    assert "damaged" in status.status("tiny")[0]["problem"]
    assert rollback("tiny").version == "1.0" and device.runs() == "1.0 Add"
    with pytest.raises(TrustError):
        rollback("tiny")
    assert device.install(release(2, "Mul")).result == "committed" and device.runs() == "2.0 Mul"


def test_a_key_that_is_taken_away_while_members_come_in_ends_the_installation(device, well):
    device.install(release(1))
    kit = release(2, "Mul")
    with incoming.begin(kit.envelope(), root=device.root) as come:
        contents = {hashlib.sha256(data).hexdigest(): data for data in kit.files.values()}
        for member in come.members:
            come.append(member.sha256, member.have, contents[member.sha256][member.have :])
        for pem in (device.root / "trust").glob("*.pem"):
            pem.unlink()
        with pytest.raises(TrustError) as caught:
            come.commit()
    assert caught.value.code == "E502" and device.state().pending == "-" and device.runs() == "1.0 Add"
