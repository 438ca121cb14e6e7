"""Flashing one device over a real OpenSSH server: what is sent, what is undone, what a bad link does."""

from __future__ import annotations

import asyncio
import hashlib
import json

import numpy as np
import pytest

import edgec_runtime as rt
from edgec.bundle import writer
from edgec.errors import Error, MissingError, RolledBackError, UnreachableError
from edgec.flash import ask, delta, device, members, plan, running, session
from edgec.flash.device import Options, Target, flash_one
from edgec_runtime.slots import state
from tests.flash import boards

X = np.arange(6, dtype=np.float32).reshape(2, 3)
RNG = np.random.default_rng(5)
WEIGHTS = RNG.integers(-9, 9, 60_000, np.int8).tobytes()
OTHER = RNG.bytes(60_000)


def changed(data, places=200):
    """The same weights, some of them moved by a step."""
    values = np.frombuffer(data, np.int8).copy()
    values[RNG.choice(len(values), places, replace=False)] += 1
    return values.tobytes()


def flash(path, *, bases=(), steps=None, **options):
    async def run():
        with plan.open(path, bases=bases) as package:
            return await flash_one(
                Target.find("pi"),
                package,
                Options(**options),
                tell=lambda *step: steps.append(step) if steps is not None else None,
            )

    return asyncio.run(run())


def runs(pi):
    """The version that loads get on the board, and its answer."""
    with rt.load(app="tiny") as model:
        return model.info["app"]["version"], model.run({"x": X})["y"]


@pytest.fixture
def here(pi, monkeypatch):
    """The board's root is this process's, to look into it."""
    monkeypatch.setenv("EDGEC_ROOT", str(pi.root))
    return pi


def stored(pi):
    return {path.name: path.read_bytes() for path in (pi.root / "store" / "sha256").iterdir()}


def whole(pi):
    """Every file in the store is what its name says, and nothing half is left."""
    assert all(hashlib.sha256(data).hexdigest() == name for name, data in stored(pi).items())
    return not [p.name for p in (pi.root / "stage").iterdir() if p.name != "lock"]


def test_a_first_flash_and_the_same_again(here, tmp_path):
    path = boards.bundle(tmp_path / "one.edge")
    steps = []
    done = flash(path, steps=steps)
    assert done.result == "committed" and done.app == "tiny" and done.sent == done.needed > 0 and not done.patches
    assert done.health["ok"] is True and done.version == "1.0" and done.wire > done.sent
    assert list(dict.fromkeys(step for step, _, _ in steps)) == ["connecting", "checking", "sending", "trial"]
    assert steps[-2][1:] == (done.needed, done.needed)
    assert runs(here)[0] == "1.0" and np.array_equal(runs(here)[1], 2 * X) and whole(here)
    again = flash(path)
    assert again.result == "unchanged" and again.sent == 0


def test_only_what_changed_is_sent_as_a_delta(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, op="Mul", weights=changed(WEIGHTS)))
    assert done.result == "committed" and done.reconnects == 0
    assert 0 < done.patches <= done.sent < done.needed / 20
    assert runs(here)[0] == "2.0" and np.array_equal(runs(here)[1], X * X) and whole(here)
    # Back to the first weights: the slot before still has them, so nothing of them is sent.
    third = flash(boards.bundle(tmp_path / "three.edge", version=3, op="Mul", weights=WEIGHTS))
    assert third.sent == 0 and runs(here)[0] == "3.0"


def test_a_base_from_an_old_bundle(here, tmp_path):
    old = boards.bundle(tmp_path / "one.edge", weights=WEIGHTS)
    new = boards.bundle(tmp_path / "two.edge", version=2, weights=changed(WEIGHTS))
    flash(old)
    for path in members.folder().iterdir():
        path.unlink()
    assert flash(new, bases=[old]).patches > 0 and runs(here)[0] == "2.0"


def test_without_the_base_here_it_is_sent_whole(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    for path in members.folder().iterdir():
        path.write_bytes(b"damaged")
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, weights=changed(WEIGHTS)))
    assert done.patches == 0 and done.sent >= len(WEIGHTS) and runs(here)[0] == "2.0"


def test_a_delta_that_is_no_shorter_is_not_sent(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, weights=OTHER))
    assert done.patches == 0 and done.sent >= len(OTHER) and runs(here)[0] == "2.0"


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_base_that_the_device_lost_or_damaged(here, tmp_path, how):
    flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    base = here.root / "store" / "sha256" / hashlib.sha256(WEIGHTS).hexdigest()
    base.unlink()
    if how == "damaged":
        base.write_bytes(b"\x55" + WEIGHTS[1:])
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, weights=changed(WEIGHTS)))
    assert done.result == "committed" and done.sent >= len(WEIGHTS) and (done.patches > 0) == (how == "damaged")
    assert runs(here)[0] == "2.0"


@pytest.mark.parametrize("how", ["noise", "other", "empty", "cut"])
def test_a_patch_that_is_of_no_use_is_followed_by_the_whole(here, tmp_path, monkeypatch, how):
    flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    good = plan.Package.patch

    async def bad(self, base, digest):
        made = await good(self, base, digest)
        return {"noise": b"\0" * 999, "other": made[:-4] + b"\0\0\0\0", "empty": b"\0", "cut": made[:50]}[how]

    monkeypatch.setattr(plan.Package, "patch", bad)
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, weights=changed(WEIGHTS)))
    assert done.result == "committed" and done.patches > 0 and done.sent >= len(WEIGHTS) + done.patches
    assert runs(here)[0] == "2.0" and whole(here)


def test_what_fails_its_trial_is_rolled_back(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge"))
    with pytest.raises(RolledBackError) as caught:
        flash(boards.bundle(tmp_path / "two.edge", version=2, model=b"no model"))
    assert caught.value.exit_code == 7 and caught.value.flashed.result == "rolled-back"
    assert caught.value.flashed.sent > 0 and "onnxruntime-float32-host" in caught.value.why
    assert runs(here)[0] == "1.0"
    found = state.read(str(here.root / "apps" / "tiny"), "tiny")
    assert (found.phase, found.pending) == ("none", "-")


def test_a_manual_confirmation_is_waited_for(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge"))
    path = boards.bundle(tmp_path / "two.edge", version=2)
    assert flash(path, confirm="manual").result == "probation"
    assert runs(here)[0] == "2.0"
    with pytest.raises(Error) as caught:
        flash(boards.bundle(tmp_path / "three.edge", version=3))
    assert "probation" in caught.value.what and caught.value.fix.startswith("edgec confirm --on pi --app tiny")


def test_another_name_on_the_device(here, tmp_path):
    flash(boards.bundle(tmp_path / "one.edge"), app="left")
    with rt.load(app="left") as model:
        assert model.info["app"]["version"] == "1.0"


def test_what_the_device_does_not_trust(here, tmp_path):
    for pem in (here.root / "trust").iterdir():
        pem.unlink()
    with pytest.raises(Error) as caught:
        flash(boards.bundle(tmp_path / "one.edge"))
    assert caught.value.code == "E502" and caught.value.exit_code == 5 and caught.value.what.startswith("pi: ")


@pytest.mark.parametrize("place", [0.2, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["whole", "delta"])
def test_through_a_link_that_is_cut(here, tmp_path, place, kind):
    """The connection is lost in the middle: it is made again, and goes on from what has arrived."""
    if kind == "delta":
        flash(boards.bundle(tmp_path / "one.edge", weights=WEIGHTS))
    weights = RNG.bytes(1_000_000) if kind == "whole" else changed(WEIGHTS, 20_000)
    path = boards.bundle(tmp_path / "two.edge", version=2, weights=weights)
    need = len(weights) if kind == "whole" else len(delta.encode(WEIGHTS, weights))
    link = here.through(cut=int(4_000 + place * need))
    steps = []
    done = flash(path, steps=steps)
    link.close()
    assert link.cuts == 1 and done.reconnects == 1 and done.result == "committed"
    assert "reconnecting" in [step for step, _, _ in steps]
    assert runs(here)[0] == "2.0" and whole(here)


def test_what_arrived_before_the_cut_is_not_sent_again(here, tmp_path, monkeypatch):
    """And the next run goes on, where this one gives up."""
    big = RNG.bytes(2_000_000)
    path = boards.bundle(tmp_path / "one.edge", weights=big)
    link = here.through(cut=1_500_000, bytes_per_second=8_000_000)
    monkeypatch.setattr(device, "AGAIN", frozenset())
    with pytest.raises(UnreachableError) as caught:
        flash(path)
    assert caught.value.exit_code == 11 and "goes on" in caught.value.fix
    arrived = sum(part.stat().st_size for part in (here.root / "stage").glob("*.part"))
    assert arrived > 100_000
    done = flash(path)
    link.close()
    assert done.sent <= done.needed - arrived and done.result == "committed" and runs(here)[0] == "1.0"


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_link_is_lost_around_the_trial(here, tmp_path, monkeypatch, when):
    """The version was acknowledged: it is tried, and the host learns how it ended."""
    flash(boards.bundle(tmp_path / "one.edge"))
    ask, cuts = session.Session.ask, []

    async def cut(self, request, **more):
        if request == "trial" and not cuts:
            cuts.append(1)
            if when == "after":
                await self.post(request, app=more["app"])
                await asyncio.sleep(0.3)
            self.wire.abort()
        return await ask(self, request, **more)

    monkeypatch.setattr(session.Session, "ask", cut)
    done = flash(boards.bundle(tmp_path / "two.edge", version=2, op="Mul"))
    assert cuts and done.reconnects >= 1 and done.result == "committed" and runs(here)[0] == "2.0"


def test_a_rollback_that_happened_while_the_link_was_gone(here, tmp_path, monkeypatch):
    flash(boards.bundle(tmp_path / "one.edge"))
    ask, cuts = session.Session.ask, []

    async def cut(self, request, **more):
        answer = await ask(self, request, **more)
        if request == "trial" and not cuts:
            cuts.append(1)
            raise UnreachableError("lost", "", "", code="E1106")
        return answer

    monkeypatch.setattr(session.Session, "ask", cut)
    with pytest.raises(RolledBackError) as caught:
        flash(boards.bundle(tmp_path / "two.edge", version=2, model=b"no model"))
    assert cuts and caught.value.why and runs(here)[0] == "1.0"


def test_a_slow_link_and_a_limit(here, tmp_path):
    link = here.through(bytes_per_second=2_000_000)
    done = flash(boards.bundle(tmp_path / "one.edge", weights=RNG.bytes(400_000)), limit=1_000_000)
    link.close()
    assert done.result == "committed" and done.transfer > 0.3


def test_a_full_disk_is_told_and_changes_nothing(here, tmp_path):
    """The disk fills up in the middle of a member: what is installed runs on, and what arrived is kept."""
    flash(boards.bundle(tmp_path / "one.edge"))
    weights = RNG.bytes(300_000)
    path = boards.bundle(tmp_path / "two.edge", version=2, weights=weights)
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "sitecustomize.py").write_text(
        "import errno, os\nreal, left = os.pwrite, [100_000]\n"
        "def pwrite(file, data, at):\n"
        "    if len(data) > left[0]:\n        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "    left[0] -= len(data)\n    return real(file, data, at)\nos.pwrite = pwrite\n"
    )
    boards.set_up(here.board.home, more=f"PYTHONPATH={extra}:$PYTHONPATH")
    with pytest.raises(Error) as caught:
        flash(path)
    assert caught.value.code == "E906" and "room" in caught.value.what and caught.value.exit_code == 9
    assert runs(here)[0] == "1.0"
    boards.set_up(here.board.home)
    done = flash(path)
    assert done.result == "committed" and done.sent < len(weights) and runs(here)[0] == "2.0"


def test_a_device_that_is_not_set_up(here, tmp_path):
    path = boards.bundle(tmp_path / "one.edge")
    launcher = here.root / "bin" / "edgec-rt"
    launcher.write_text("#!/bin/sh\necho 'error[E200]: argument COMMAND: invalid choice: agent' >&2; exit 2\n")
    with pytest.raises(MissingError, match="too old") as caught:
        flash(path)
    assert caught.value.code == "E1044"
    launcher.unlink()
    with pytest.raises(MissingError) as caught:
        flash(path)
    assert caught.value.code == "E1043" and caught.value.exit_code == 10
    assert caught.value.fix == "edgec devices setup pi" and "edgec-rt" in caught.value.why


def test_a_greeting_does_no_harm(here, tmp_path):
    boards.set_up(here.board.home, more="echo; echo 'edgec-agen'; echo Welcome to this board; yes | head -c 30000")
    assert flash(boards.bundle(tmp_path / "one.edge")).result == "committed"


def test_two_transfers_at_once_take_turns(here, tmp_path):
    one = boards.bundle(tmp_path / "one.edge", weights=OTHER)
    two = boards.bundle(tmp_path / "two.edge", weights=WEIGHTS, name="other")

    async def both():
        with plan.open(one) as first, plan.open(two) as second:
            return await asyncio.gather(*(flash_one(Target.find("pi"), package) for package in (first, second)))

    assert [done.result for done in asyncio.run(both())] == ["committed", "committed"]


def test_the_numbers_are_json(here, tmp_path):
    done = flash(boards.bundle(tmp_path / "one.edge"))
    assert json.loads(json.dumps(done.as_dict()))["result"] == "committed"


def test_root_metadata_that_the_device_lacks_goes_first(here, tmp_path):
    """The device pinned version 1; this machine has 2, with another release key: the bundle of that key is taken."""
    from edgec.bundle import keys
    from edgec.trust import chain
    from edgec_runtime.trust import rotate, store

    for name in ("root", "old", "new"):
        keys.new(name)
    first = chain.next_version(now=1_790_000_000, root_keys=["root"], release_keys=["old"])
    second = chain.next_version(now=1_790_000_000, release_keys=["new"])
    rotate.pin(first.data, root=here.root)
    path = boards.bundle(tmp_path / "one.edge")
    writer.sign(path, keys.load("new"))
    known = [(version.number, version.data) for version in (first, second)]
    with pytest.raises(Error) as caught:
        flash(path)
    assert caught.value.exit_code == 5
    done = flash(path, chain=known)
    assert done.result == "committed" and done.followed == (1, 2) and not done.emulated
    assert store.load_trusted(None, root=here.root).version == 2
    done = flash(path, chain=known)
    assert done.result == "unchanged" and done.followed == (0, 0)


def test_a_run_on_the_device(here, tmp_path):
    """Arrays there, arrays back, through a process of its own."""
    flash(boards.bundle(tmp_path / "one.edge"))
    outputs, info = asyncio.run(ask.on(Target.find("pi"), lambda device: running.run(device, "tiny", {"x": X})))
    assert np.array_equal(outputs["y"], 2 * X) and outputs["y"].dtype == np.float32
    assert info["version"] == "1.0" and info["payload"] == "onnxruntime-float32-host" and info["seconds"] > 0
    for feeds, code in (({"x": X[:1]}, "E911"), ({"z": X}, "E910"), ({"x": np.array(["a"])}, "E911")):
        with pytest.raises(Error) as caught:
            asyncio.run(ask.on(Target.find("pi"), lambda device, f=feeds: running.run(device, "tiny", f)))
        assert caught.value.code == code and caught.value.what.startswith("pi: ")
