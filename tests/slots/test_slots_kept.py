"""What outlives versions, and what does not: floors and sequences, collection, removal, the journal, old records."""

from __future__ import annotations

import os
import time

import pytest

from edgec_runtime.errors import MissingError, TrustError
from edgec_runtime.slots import collect, journal, locks, remove, status
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.trial import trial
from tests.slots.conftest import release


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


def test_a_damaged_record_keeps_the_floor_of_its_versions(device, well):
    device.install(release(4, floor=3))
    path = device.root / "apps" / "tiny" / "state"
    path.write_bytes(path.read_bytes().replace(b"floor 3", b"floor 0"))  # its checksum is wrong now
    assert not remove.forgotten(device.where, "tiny")  # damaged is not removed
    with pytest.raises(TrustError) as caught:
        device.send(release(2, "Mul"))
    assert caught.value.code == "E509"
    assert device.install(release(5, "Mul")).result == "committed" and device.state().floor == 3
