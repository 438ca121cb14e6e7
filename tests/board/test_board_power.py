"""The power is cut: while a bundle comes in, while it is installed, while it is tried. What the board makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.devices import virtual
from edgec.devices.transport import Connection
from edgec.flash import plan, session
from edgec.flash import running as flash_running
from edgec.flash.device import Options, Target, flash_one
from tests.board import bundles
from tests.board.conftest import NOW, World, on, recovered, shell, switch_on
from tests.command import edgec

pytestmark = pytest.mark.timeout(900)
NAME = "virtual"


@pytest.fixture(scope="module")
def disk(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board that runs version 1, switched off: its disk, for each test to begin with."""
    started = virtual.start(NAME, now=NOW)
    done = edgec("devices", "setup", NAME)
    assert done.code == 0, done.err
    folder = tmp_path_factory.mktemp("disk")
    bundles.compiled(folder / "1.edge", started.description, 1, version=1)
    bundles.compiled(folder / "2.edge", started.description, 2, version=2)
    done = edgec("flash", folder / "1.edge", "--on", NAME)
    assert done.code == 0, done.err
    assert virtual.stop(NAME)
    copy(virtual.get(NAME).disk, folder / "disk.ext4")
    return folder


@pytest.fixture
def board(here: World, disk: Path) -> Iterator[Path]:
    """It runs version 1; `folder` has both bundles."""
    copy(disk / "disk.ext4", virtual.get(NAME).disk)
    switch_on(NAME)
    yield disk
    virtual.stop(NAME, power_cut=True)


def copy(source: Path, target: Path) -> None:
    """With its holes."""
    subprocess.run(["cp", "--sparse=always", source, target], check=True)


def flash_and_cut(bundle: Path, step: str, part: float, delay: float, *, limit: float | None = None) -> list[str]:
    """Flash until a step (or `part` of the bytes), then cut the power `delay` seconds later; the steps that were."""
    steps: list[str] = []

    async def work() -> None:
        fired = asyncio.Event()

        def tell(name: str, done: int, total: int) -> None:
            steps.append(name)
            if name == step and (not total or done >= part * total):
                fired.set()

        with plan.open(bundle) as package:
            task = asyncio.ensure_future(flash_one(Target.find(NAME), package, Options(limit=limit), tell=tell))
            waiting = asyncio.ensure_future(fired.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            assert not task.done(), task.exception()
            await asyncio.sleep(delay)
            assert virtual.stop(NAME, power_cut=True)
            for each in (task, waiting):
                each.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task

    asyncio.run(work())
    return steps


def running() -> int:
    """Which version runs: by its answers, by what it says, and by the board's status. They must agree."""

    async def ask(device: Connection) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        async with session.open(device, name=NAME) as there:
            outputs, said = await flash_running.run(there, "product", bundles.feed())
            return outputs, said, (await there.ask("status", app="product"))["apps"][0]

    outputs, said, app = on(NAME, ask)
    expected = {seed: bundles.feed()["x"] @ bundles.matrix(seed) for seed in (1, 2)}
    fits = [seed for seed, answers in expected.items() if np.allclose(outputs["y"], answers, atol=1e-4)]
    assert [f"{seed}.0" for seed in fits] == [said["version"]] == [app["version"]]
    assert app["phase"] == "none" and app["pending"] is None, app
    return fits[0]


def why() -> str:
    """What the board says of its last rollback."""
    (device,) = edgec("status", "--on", NAME, "--json").json["devices"]
    (app,) = device["apps"]
    return str(app["why"])


def test_a_virtual_board_loses_what_was_not_flushed(board: Path) -> None:
    """The control: a cut is a cut, and what was flushed stays."""
    shell(NAME, "echo old > kept; sync; sleep 0.1")
    shell(NAME, "python3 -c \"import os; f = open('flushed', 'w'); f.write('x'); f.flush(); os.fsync(f.fileno());"
                "os.fsync(os.open('.', 0))\"; echo new > lost")  # fmt: skip
    assert virtual.stop(NAME, power_cut=True)
    switch_on(NAME)
    assert shell(NAME, "cat kept flushed; ls").split() == ["old", "xflushed", "kept"]


def test_cut_while_it_comes_in(board: Path) -> None:
    steps = flash_and_cut(board / "2.edge", "sending", 0.6, 0.0, limit=400e3)
    assert "trial" not in steps
    switch_on(NAME)
    recovered(NAME)
    assert running() == 1
    flashed = edgec("flash", board / "2.edge", "--on", NAME, "--json")
    assert flashed.code == 0, flashed.err
    assert running() == 2


@pytest.mark.parametrize("delay", [0.0, 0.25])
def test_cut_while_it_is_installed(board: Path, delay: float) -> None:
    """All bytes are there: around the flushes, the renames and the state record."""
    flash_and_cut(board / "2.edge", "sending", 1.0, delay)
    switch_on(NAME)
    recovered(NAME)
    assert running() in (1, 2)
    flashed = edgec("flash", board / "2.edge", "--on", NAME)
    assert flashed.code == 0, flashed.err
    assert running() == 2


def test_cut_while_it_is_tried(board: Path) -> None:
    """It was acknowledged, so it is not lost: the board tries it again by itself when it boots."""
    steps = flash_and_cut(board / "2.edge", "trial", 0.0, 2.0)
    assert steps[-1] == "trial"
    switch_on(NAME)
    recovered(NAME)
    assert running() == 2
    again = edgec("flash", board / "2.edge", "--on", NAME, "--json")
    assert again.code == 0, again.err
    assert again.json["result"] == "unchanged"
    back = edgec("rollback", "--on", NAME, "--app", "product")
    assert back.code == 0, back.err
    assert running() == 1


def test_a_bad_update_that_loses_power_in_its_trial_rolls_back_at_boot(board: Path, tmp_path: Path) -> None:
    bad = bundles.again(board / "1.edge", tmp_path / "bad.edge", version=3, wrong=True)
    flash_and_cut(bad, "trial", 0.0, 0.5)
    switch_on(NAME)
    assert "rolled" in recovered(NAME)
    assert running() == 1
    assert "golden" in why()
