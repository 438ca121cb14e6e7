"""A version's way from the first byte to what loads get: trial, probation, confirmation, going back."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

import edgec_runtime as rt
from edgec_runtime.errors import MissingError, RolledBackError, TrustError, UsageError
from edgec_runtime.slots import boot, collect, incoming, journal, locks, remove, status
from edgec_runtime.slots.confirm import confirm
from edgec_runtime.slots.recover import recover
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.trial import trial
from tests.slots.conftest import ANSWERS, release


@pytest.fixture
def clock(monkeypatch):
    """The boot and its clock, as the test sets them."""

    class Clock:
        boot, now = "b001", 1000.0

    monkeypatch.setattr(boot, "boot_id", lambda: Clock.boot)
    monkeypatch.setattr(boot, "now", lambda: Clock.now)
    return Clock


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


def test_confirming_what_is_on_trial_or_not_there(device, well):
    with pytest.raises(MissingError):
        confirm("tiny")
    device.send(release(1))
    with pytest.raises(UsageError) as caught:
        confirm("tiny")
    assert caught.value.code == "E203"


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


def test_rollback_ends_a_trial_and_a_probation(device, well, clock):
    device.install(release(1))
    device.send(release(2, "Mul"))
    assert rollback("tiny").version == "1.0" and device.state().phase == "none"
    device.install(release(2, "Mul"), confirm="manual")
    assert device.runs() == "2.0 Mul"
    assert rollback("tiny").version == "1.0" and device.runs() == "1.0 Add"


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


def test_the_security_floor_is_raised_at_the_commit_and_holds_for_rollbacks(device, well):
    device.install(release(1))
    well.update(ok=False, why="no", code="E702")
    device.install(release(3, "Mul", floor=3))
    assert device.state().floor == 0  # a version that failed forbids nothing
    well.update(ok=True)
    device.install(release(4, "Mul", floor=3))
    assert device.state().floor == 3
    with pytest.raises(TrustError) as caught:
        rollback("tiny")
    assert caught.value.code == "E509" and device.runs() == "4.0 Mul"
    remove.remove("tiny")
    assert status.status() == []
    with pytest.raises(MissingError):
        status.status("tiny")
    with pytest.raises(TrustError):  # removing the app does not open the way for old versions
        device.send(release(2))
    assert device.install(release(5)).result == "committed"


def test_older_than_the_active_version(device, well):
    device.install(release(2))
    with pytest.raises(TrustError) as caught:
        device.send(release(1, "Mul"))
    assert caught.value.code == "E511"
    assert device.install(release(2, "Mul")).result == "committed"  # the same sequence, another build


def test_remove_takes_what_only_this_app_needs(device, well):
    device.install(release(1))
    device.install(release(1), app="twin")
    device.install(release(1, "Mul", name="other"))
    shared = device.members()
    remove.remove("twin")
    assert device.members() == shared and device.runs() == "1.0 Add"
    remove.remove("tiny")
    assert device.runs("other") == "1.0 Mul" and len(device.members()) == 3
    assert sorted(path.name for path in (device.root / "apps").iterdir()) == ["other"]
    for name in ("tiny", "nothing"):
        with pytest.raises(MissingError):
            remove.remove(name)


def test_nothing_is_collected_while_an_app_is_on_trial_or_damaged(device, well):
    device.install(release(1))
    device.install(release(1, "Mul", name="other"))
    device.send(release(2, "Max", name="other"))
    stray = device.root / "store" / "sha256" / ("0" * 64)
    stray.write_bytes(b"of nobody")
    assert collect.collect(device.where) == 0 and stray.exists()
    trial("other")
    assert not stray.exists()
    stray.write_bytes(b"of nobody")
    path = device.root / "apps" / "tiny" / "state"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert collect.collect(device.where) == 0 and stray.exists()
    path.write_bytes(whole)
    assert collect.collect(device.where) == 9 and device.runs() == "1.0 Add"


def test_nothing_is_collected_while_somebody_transfers(device, well):
    device.install(release(1))
    stray = device.root / "store" / "sha256" / ("0" * 64)
    stray.write_bytes(b"sent, not committed yet")
    import os

    held = locks.acquire(str(device.root / "stage" / "lock"))
    assert collect.collect(device.where) == 0 and stray.exists()
    os.close(held)
    assert collect.collect(device.where) == 23


def test_the_journal_tells_it_and_stays_small(device, well):
    device.install(release(1))
    well.update(ok=False, why="wrong answers", code="E702")
    device.install(release(2, "Mul"))
    events = [entry["event"] for entry in journal.read(device.where, "tiny")]
    assert events == ["installed", "trial", "committed", "installed", "trial", "rolled-back"]
    last = journal.read(device.where, "tiny", 1)[0]
    assert last["why"] == "wrong answers" and last["code"] == "E702" and last["time"].endswith("Z")
    for _ in range(700):
        journal.note(device.where, "tiny", "noise", text="x" * 500)
    path = device.root / "apps" / "tiny" / "log"
    assert path.stat().st_size <= journal.LIMIT + 600
    assert all(entry["event"] == "noise" for entry in journal.read(device.where, "tiny", 200))
    with path.open("ab") as file:
        file.write(b'\xff\xfe{"half": \n[1]\n')
    journal.note(device.where, "tiny", "after", huge="y" * 100_000)
    assert journal.read(device.where, "tiny", 1)[0] == {**journal.read(device.where, "tiny", 1)[0], "event": "after"}


def test_a_state_of_yesterday(device, well):
    """Records without the new lines: read, run, updated; the slot beside the active one is not gone back to."""
    device.install(release(1))
    device.install(release(2, "Mul"))
    device.edit(other="-", other_ready="-", latency={}, latency_cpu="")
    assert b"other" not in (device.root / "apps" / "tiny" / "state").read_bytes()
    assert device.runs() == "2.0 Mul"
    with pytest.raises(MissingError):
        rollback("tiny")
    assert device.install(release(3, "Max")).result == "committed" and device.runs() == "3.0 Max"
    assert rollback("tiny").version == "2.0"


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


def test_a_lock_of_an_app_that_was_removed_meanwhile_locks_nothing(tmp_path):
    """Who waited for it takes the lock of the file that is there now, or none."""
    from threading import Thread

    from edgec_runtime.slots import locks

    path = tmp_path / "trial"
    held, got = locks.acquire(str(path)), []
    waits = Thread(target=lambda: got.append(locks.acquire(str(path), 60)))
    waits.start()
    time.sleep(0.1)
    path.unlink()
    os.close(held)
    waits.join()
    try:
        assert locks.acquire(str(path)) is None
        assert path.stat().st_ino == os.fstat(got[0]).st_ino
    finally:
        os.close(got[0])


def test_two_threads_that_write_files_of_one_name_keep_them_apart(tmp_path):
    """`proven` of two apps that one process loads: the first to end must not rename the other's half of a file."""
    from edgec_runtime.slots import files

    for name in ("stage", "one", "two"):
        (tmp_path / name).mkdir()

    def inner(file):
        os.write(file, b"two")

    def outer(file):
        os.write(file, b"one")
        files.place(str(tmp_path / "two" / "proven"), inner, str(tmp_path / "stage"))

    files.place(str(tmp_path / "one" / "proven"), outer, str(tmp_path / "stage"))
    assert [(tmp_path / name / "proven").read_text() for name in ("one", "two")] == ["one", "two"]
    assert not list((tmp_path / "stage").iterdir())


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


def test_a_damaged_record_keeps_the_floor_of_its_versions(device, well):
    device.install(release(4, floor=3))
    path = device.root / "apps" / "tiny" / "state"
    path.write_bytes(path.read_bytes().replace(b"floor 3", b"floor 0"))  # its checksum is wrong now
    assert not remove.forgotten(device.where, "tiny")  # damaged is not removed
    with pytest.raises(TrustError) as caught:
        device.send(release(2, "Mul"))
    assert caught.value.code == "E509"
    assert device.install(release(5, "Mul")).result == "committed" and device.state().floor == 3


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
