"""Every call of the file system is where a process may die or a disk may be full: what loads stays whole, always."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil

import pytest

from edgec_runtime.errors import BadInputError, Error, MissingError, UsageError
from edgec_runtime.slots import collect, remove, states, store
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.confirm import confirm
from edgec_runtime.slots.recover import recover
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.status import status
from tests.slots.conftest import release
from tests.slots.slots_faults import PowerCutError, dying, failing

MOST = 600  # calls, more than any operation makes


@pytest.fixture(autouse=True)
def no_flush(monkeypatch):
    """A process' death loses nothing that the kernel has: flushing is counted, and costs nothing here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def whole(device, app="tiny"):
    """After recovery: nothing undecided, each slot of the record whole, the status as the record, nothing lost."""
    state = device.state(app)
    assert state.phase != "trial"
    (told,) = status(app, root=device.root)
    assert told["problem"] == "" and told["phase"] == state.phase
    from edgec_runtime.slots import active

    for name in state_.SLOTS:
        if state.slot(name)[0] != "-":
            for digest, size in active.slot(device.where, app, state, name).store.values():
                assert store.holds(device.where, digest, size)
    needed = collect.referenced(device.where)
    assert needed is not None and needed <= device.members()
    collect.collect(device.where)  # what a transfer left is kept until then: it may go on
    assert device.members() == needed


OPERATIONS = {
    "install": (lambda device: device.install(release(3, "Max")), {"2.0 Mul", "3.0 Max"}),
    "rollback": (lambda device: rollback("tiny", root=device.root), {"2.0 Mul", "1.0 Add"}),
    "on probation": (lambda device: device.install(release(3, "Max"), confirm="manual"), {"2.0 Mul", "3.0 Max"}),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_death_before_every_call(device, well, tmp_path, name):
    """The process dies before each call of an operation in turn: before and after `recover` a whole version runs."""
    operation, allowed = OPERATIONS[name]
    device.install(release(1))
    device.install(release(2, "Mul"))
    before = tmp_path / "before"
    shutil.copytree(device.root, before)
    seen = set()
    for step in range(MOST):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root)
        with dying(step) as calls, contextlib.suppress(PowerCutError):
            operation(device)
        runs = device.gets()
        assert runs in allowed, step
        recover()
        whole(device)
        settled = device.gets()
        assert settled in allowed and (calls.dead or settled == runs), step
        assert not (calls.dead and runs != "2.0 Mul" and settled == "2.0 Mul"), "what was loaded was taken back"
        assert recover() == []
        seen.add(settled)
        if not calls.dead:
            break
    assert not calls.dead and step > 5 and seen == allowed


def test_death_while_recovering(device, well, tmp_path):
    """Cut off in a trial, then again before every call of the recovery: at last it is decided."""
    device.install(release(1))
    device.send(release(2, "Mul"))
    before = tmp_path / "before"
    shutil.copytree(device.root, before)
    for step in range(MOST):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root)
        with dying(step) as calls, contextlib.suppress(PowerCutError):
            recover()
        assert device.gets() in ("1.0 Add", "2.0 Mul")
        recover()
        whole(device)
        assert device.gets() == "2.0 Mul"
        if not calls.dead:
            break
    assert not calls.dead and step > 10


@pytest.mark.parametrize("what", ["confirm", "remove"])
def test_death_while_confirming_or_removing(device, well, tmp_path, what):
    device.install(release(1))
    device.install(release(2, "Mul"), confirm="manual")
    before = tmp_path / "before"
    shutil.copytree(device.root, before)
    for step in range(MOST):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root)
        with dying(step) as calls, contextlib.suppress(PowerCutError):
            confirm("tiny") if what == "confirm" else remove.remove("tiny")
        recover()
        try:
            runs = device.gets()
        except MissingError:
            runs = ""
        if runs:
            whole(device)
        else:
            collect.collect(device.where)
            assert device.members() == set() and "tiny" not in states.apps(device.where)
        assert runs == "2.0 Mul" or (what == "remove" and runs == "")
        if not calls.dead:
            break
    assert not calls.dead and step > 5 and runs == ("2.0 Mul" if what == "confirm" else "")


@pytest.mark.parametrize("number, for_good", [(errno.ENOSPC, True), (errno.ENOSPC, False), (errno.EIO, False)])
def test_a_disk_that_fails_at_every_write(device, well, tmp_path, number, for_good):
    """Our errors only; the version before runs on or the new one does; with room again, everything works."""
    device.install(release(1))
    device.install(release(2, "Mul"))
    before = tmp_path / "before"
    shutil.copytree(device.root, before)
    for step in range(0, MOST, 1 if for_good else 2):
        shutil.rmtree(device.root)
        shutil.copytree(before, device.root)
        failed = None
        with failing(step, number, for_good=for_good) as calls:
            try:
                device.install(release(3, "Max"))
            except Error as error:
                failed = error
        assert device.gets() in ("2.0 Mul", "3.0 Max"), step
        if failed is not None:
            assert isinstance(failed, (BadInputError, UsageError)) and failed.code in ("E906", "E201"), failed
            assert (failed.code == "E906") == (number == errno.ENOSPC), step
        recover()
        whole(device)
        assert device.install(release(3, "Max")).result == "committed" and device.gets() == "3.0 Max"
        if calls.made <= step:
            break
    assert calls.made <= step and step > 10


def test_a_root_that_is_read_only(device, well):
    """Loading, status and a recovery that has nothing to do write nothing; the rest says why it can't."""
    device.install(release(1))
    device.install(release(2, "Mul"))
    with failing(0, errno.EROFS, for_good=True), dying(None) as calls:
        assert recover() == [] and status("tiny", root=device.root)[0]["version"] == "2.0"
        assert calls.made == 0
    with failing(0, errno.EROFS, for_good=True):
        assert device.runs() == "2.0 Mul"
        for operation in (
            lambda: device.install(release(3)),
            lambda: rollback("tiny"),
            lambda: remove.remove("tiny"),
        ):
            with pytest.raises(UsageError) as caught:
                operation()
            assert caught.value.code == "E201"
    assert device.runs() == "2.0 Mul"
