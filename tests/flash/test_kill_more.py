"""Bad luck that goes on, and real processes: reboot loops, disks that fill up or go read-only, clocks, kill -9."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgec_runtime.errors import TrustError
from edgec_runtime.slots import collect, health
from edgec_runtime.trust import rotate
from edgec_toolchains.crashlab import obstacle
from tests.flash.crash_device import Boot, Device, bundle, in_process, wrong
from tests.flash.crash_programs import version, with_versions
from tests.flash.crash_run import in_a_process
from tests.flash.crash_trust import root_metadata, rooted

OBSTACLE = obstacle()
needs_mounts = pytest.mark.skipif(bool(OBSTACLE), reason=f"crash laboratory: {OBSTACLE}")
JUMPS = (0.0, 2.0**31, 1e9, 4e9, 1.7e9)  # seconds since 1970: a clock that was never set, one that overflowed, any


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "edgec")


@pytest.fixture
def boots() -> Iterator[Boot]:
    with Boot() as found:
        yield found


def test_reboots_in_every_trial_end_with_the_old_version() -> None:
    found = in_a_process("kill_more", "loops")
    assert found["problems"] == {} and found["cases"] >= 25


@needs_mounts
def test_a_disk_that_really_fills_up() -> None:
    found = in_a_process("kill_more", "full")
    assert found["problems"] == {} and found["cases"] >= 6


@needs_mounts
def test_a_root_that_goes_read_only() -> None:
    assert in_a_process("kill_more", "read-only")["problems"] == {}


def test_a_clock_that_jumps_changes_nothing(device: Device, boots: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.cycle(JUMPS)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    with in_process():
        rooted(device)
        device.install(version(2), confirm="manual")
        assert (device.current(), device.status()["phase"]) == (2, "probation")
        boots.clock += 59.0
        assert device.recover() == [] and device.current() == 2  # the deadline is counted in the boot's own clock
        device.confirm()
        rotate.update([root_metadata(2)], root=device.root)
        device.rollback()
        assert device.current() == 1 and wrong(device) == ""
        device.install(version(3))
    assert device.current() == 3 and wrong(device) == ""


def test_a_probation_ends_by_the_clock_that_can_not_jump(device: Device, boots: Boot) -> None:
    with in_process():
        with_versions(1)(device)
        device.install(version(2), confirm="manual")
        boots.clock += 61.0
        assert device.current() == 1  # at once, without a program that watches
        (outcome,) = device.recover()
    assert (outcome.result, outcome.code) == ("rolled-back", "E710") and wrong(device) == ""


def test_what_has_expired_still_runs(device: Device, boots: Boot, monkeypatch: pytest.MonkeyPatch) -> None:
    with in_process():
        rooted(device)
        device.transfer(version(2))
        monkeypatch.setattr(time, "time", lambda: 5e9)  # 2128: the root metadata has expired
        assert device.current() == 1
        device.recover()  # what was acknowledged is finished
        assert device.current() == 2 and wrong(device) == ""
        with pytest.raises(TrustError, match="expired"):
            device.install(version(3))
        device.rollback()
    assert device.current() == 1


def test_kill_9_while_the_health_check_runs(device: Device) -> None:
    """Real processes throughout: the installing one dies, its health check is left alone, another one recovers."""
    with in_process():
        with_versions(1)(device)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.flash.crash_device import Device, bundle\n"
        "device = Device(Path(sys.argv[1]))\ndevice.transfer(bundle(2))\ndevice.trial()\nprint('done')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, device.root], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE
    ) as process:
        while process.poll() is None and device.state().tries != 2:
            time.sleep(0.002)
        process.kill()
        assert process.communicate()[0] == b"" and process.returncode == -signal.SIGKILL
    assert device.current() == 1 and device.status()["phase"] == "trial"
    (outcome,) = device.recover()
    assert outcome.result == "committed" and device.current() == 2 and wrong(device) == ""


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGILL])
def test_a_health_check_that_dies_is_a_rollback(
    device: Device, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_process():
        with_versions(1)(device)
    monkeypatch.setattr(health, "CHILD", f"import os; os.kill(os.getpid(), {int(number)})")
    device.transfer(bundle(2))
    outcome = device.trial()
    assert (outcome.result, outcome.code) == ("rolled-back", "E705") and number.name in outcome.why
    assert device.current() == 1 and wrong(device) == "" and number.name in device.status()["why"]


def test_what_is_done_is_no_error_where_only_the_collection_fails(
    device: Device, boots: Boot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(where: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with in_process():
        with_versions(1)(device)
        device.install(version(2), confirm="manual")
        monkeypatch.setattr(collect, "collect", broken)
        assert device.confirm().result == "committed" and device.current() == 2
        assert device.install(version(3)).result == "committed" and device.current() == 3
        device.remove()
        assert device.current() is None


@needs_mounts
def test_crash_states_with_the_health_check_in_its_own_process() -> None:
    found = in_a_process("crash_run", "recovery", "ordered", "child")
    assert found["problems"] == {} and found["contents"] >= 8
