"""Random histories of a device against a model of it: installations, trials, cuts, restarts, in any order."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from edgec_runtime.errors import MissingError, RolledBackError, TrustError, UsageError
from edgec_runtime.slots import boot, collect, health, locks, remove, status, store
from edgec_runtime.slots import state as state_
from edgec_runtime.slots.confirm import confirm
from edgec_runtime.slots.recover import recover
from edgec_runtime.slots.rollback import rollback
from edgec_runtime.slots.trial import trial
from edgec_runtime.trust import store as trust_store
from tests.runtime.conftest import private_key, public_raw
from tests.slots.conftest import ANSWERS, Device, release
from tests.slots.slots_faults import PowerCutError, dying

OPS = sorted(ANSWERS)
crashes = st.one_of(st.none(), st.integers(0, 120))


class Machine(RuleBasedStateMachine):
    """`active`, `other`, `pending` are sequences of versions; 0 is none. The clock and the boot are the test's."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="edgec-slots-"))
        self.patch = pytest.MonkeyPatch()
        self.patch.setenv("EDGEC_ROOT", str(self.folder / "root"))
        self.patch.setattr(os, "fsync", lambda _: None)
        self.patch.setattr(locks, "WAIT", 0.5)  # nobody else is here: a lock that is held was not given back
        self.patch.setattr(boot, "boot_id", lambda: f"b{self.boots}")
        self.patch.setattr(boot, "now", lambda: self.clock)
        self.patch.setattr(health, "check", lambda *_, **__: health.Health(self.well, "E702", "ill", {}, {}))
        self.device = Device(self.folder / "root")
        self.boots, self.clock, self.well = 1, 100.0, True
        self.active = self.other = self.pending = self.floor = self.newest = 0
        self.phase = "none"

    @initialize()
    def trust(self):
        raw = public_raw(private_key(1))
        folder = self.folder / "root" / "trust"
        folder.mkdir(parents=True)
        (folder / f"{trust_store.key_id(raw)}.pem").write_bytes(trust_store.to_pem(raw))

    def teardown(self):
        self.patch.undo()
        shutil.rmtree(self.folder)

    def op(self, sequence):
        return OPS[sequence % len(OPS)]

    def do(self, call, crash):
        """Whether it came to its end; errors are the caller's."""
        with dying(crash):
            try:
                call()
            except PowerCutError:
                return False
        return True

    def restart(self):
        """A new boot: what was under way is settled, and the model takes over what was decided."""
        self.boots, self.clock = self.boots + 1, 10.0
        recover()
        found = self.device.state() if self.exists() else state_.State()
        assert found.phase != "trial"
        return found

    def exists(self):
        return (self.folder / "root" / "apps" / "tiny" / "state").exists()

    def sequence(self, found, name):
        if found.slot(name)[0] == "-":
            return 0
        from edgec_runtime.slots import active

        return active.slot(self.device.where, "tiny", found, name).manifest["app"]["sequence"]

    def adopt(self, found):
        self.active = self.sequence(found, found.active) if found.active != "-" else 0
        inactive = self.sequence(found, found.inactive())
        self.pending, self.other = (inactive, 0) if found.phase != "none" else (0, inactive)
        self.phase, self.floor = found.phase, found.floor
        self.until = found.until

    @rule(
        well=st.booleans(), manual=st.booleans(), floor=st.booleans(), again=st.booleans(), crash=crashes,
        tries=st.integers(1, 3),
    )  # fmt: skip
    def install(self, well, manual, floor, again, crash, tries):
        sequence = self.active if again and self.active else max(self.newest, self.active) + 1
        kit = release(sequence, self.op(sequence), **({"floor": sequence} if floor and not again else {}))
        self.newest, self.well = max(self.newest, sequence), well
        acknowledged = False
        outcome = None

        def call():
            nonlocal acknowledged, outcome
            self.device.send(kit, confirm="manual" if manual else "auto", deadline=50.0, tries=tries)
            acknowledged = True
            outcome = trial("tiny")

        lapsed = self.phase == "probation" and not self.on_probation()
        before = self.active
        try:
            finished = self.do(call, crash)
        except UsageError as error:
            assert self.on_probation() and error.code == "E202"
            return
        except TrustError as error:
            assert error.code in ("E509", "E511") and sequence < max(self.floor, self.active)
            return
        assert not self.on_probation()
        unchanged = again and before == sequence and not lapsed and self.phase == "none"
        found = self.device.state() if finished else self.restart()
        if finished:
            expected = "committed" if well and (not manual or unchanged) else "probation" if well else "rolled-back"
            if not unchanged:
                assert outcome.result == expected
        now = self.sequence(found, found.active) if found.active != "-" else 0
        assert now in (before, sequence)
        if acknowledged and well and not manual:
            assert now == sequence  # what was acknowledged and is well is never lost
        if not well and not unchanged:
            assert now == before
        self.adopt(found)

    def on_probation(self):
        return self.phase == "probation" and self.device.state().boot == f"b{self.boots}" and self.clock < self.until

    @rule(crash=crashes)
    def rollback(self, crash):
        before = (self.active, self.other, self.phase)
        try:
            finished = self.do(lambda: rollback("tiny"), crash)
        except MissingError:
            assert not self.exists() or (before[1] == 0 and before[2] == "none")
            return
        except TrustError as error:
            assert error.code == "E509" and before[1] < self.floor
            return
        found = self.device.state() if finished else self.restart()
        old = (self.active, self.other)
        self.adopt(found)
        if before[2] != "none":
            assert self.active == old[0] and (not finished or self.phase == "none")
        elif finished:
            assert (self.active, self.other) == (old[1], old[0])
        else:
            assert (self.active, self.other) in (old, old[::-1])

    @rule(crash=crashes)
    def confirm(self, crash):
        in_time, pending, active = self.on_probation() if self.exists() else False, self.pending, self.active
        try:
            finished = self.do(lambda: confirm("tiny"), crash)
        except RolledBackError:
            assert not in_time
            finished = True
        except MissingError:
            assert not self.exists() or self.device.state().active == "-"
            return
        found = self.device.state() if finished else self.restart()
        self.adopt(found)
        assert self.active == pending if in_time and finished else self.active in (pending, active)

    @precondition(lambda self: self.exists())
    @rule(crash=crashes)
    def remove(self, crash):
        floor = self.device.state().floor
        try:
            finished = self.do(lambda: remove.remove("tiny"), crash)
        except MissingError:
            finished = True
        found = (self.device.state() if self.exists() else state_.State()) if finished else self.restart()
        assert found.floor == floor or (floor == 0 and not self.exists())
        if finished:
            assert (found.active, found.pending) == ("-", "-")
        self.adopt(found)

    @rule(crash=crashes)
    def power_cut(self, crash):
        self.boots, self.clock = self.boots + 1, 10.0
        active = self.active
        self.do(recover, crash)
        self.adopt(self.restart())
        assert self.active == active

    @rule(seconds=st.sampled_from([1.0, 30.0, 60.0]))
    def time_passes(self, seconds):
        self.clock += seconds

    @rule()
    def collect(self):
        collect.collect(self.device.where)
        needed = collect.referenced(self.device.where)
        assert needed is not None and {digest for digest, _ in store.members(self.device.where)} == needed

    @invariant()
    def a_load_gets_what_the_model_says(self):
        expected = self.pending if self.exists() and self.on_probation() else self.active
        try:
            gets = self.device.gets()
        except MissingError:
            gets = ""
        assert gets == (f"{expected}.0 {self.op(expected)}" if expected else "")

    @invariant()
    def the_record_is_true(self):
        if not self.exists():
            return
        found = self.device.state()
        assert found.phase == self.phase and found.floor == self.floor
        for name in state_.SLOTS:
            if found.slot(name)[0] != "-":
                from edgec_runtime.slots import active

                for digest, size in active.slot(self.device.where, "tiny", found, name).store.values():
                    assert store.holds(self.device.where, digest, size)
        with contextlib.suppress(MissingError):
            (told,) = status.status("tiny")
            assert told["version"] == (self.device.gets().split()[0] if told["slot"] else "")


def test_histories():
    times = 10 if settings.get_current_profile_name().startswith("explore") else 1
    run_state_machine_as_test(Machine, settings=settings(max_examples=25 * times, stateful_step_count=14))
