"""Virtual boards for tests: real aarch64 code under QEMU. `make test-board` sets `EDGEC_TEST_BOARD`; else they skip.

A board is made once a module; every module has its own configuration, cache and keys, as a user of its own.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgec.devices import connect, virtual
from edgec.devices.transport import Connection
from edgec.errors import MissingError
from edgec_toolchains.boards import virtual as boards

ROOT = Path(__file__).parents[2]
SWITCH = "EDGEC_TEST_BOARD"
NOW = "2026-11-24T12:00:00+00:00"


@dataclass(frozen=True)
class World:
    """A user's folders, and one board called `virtual`."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        """What a shell of this user would have."""
        return {
            "EDGEC_CONFIG": str(self.folder / "config"),
            "EDGEC_ROOT": str(self.folder / "root"),
            "EDGEC_CACHE": str(self.folder / "cache"),
            "EDGEC_BOARDS": os.environ.get("EDGEC_BOARDS") or str(ROOT / "build" / "boards"),
        }


@pytest.fixture(scope="module")
def image() -> boards.Image:
    """The image; tests that need it skip where it was not asked for, or can't be had."""
    if not os.environ.get(SWITCH):
        pytest.skip(f"emulated boards are slow: make test-board (or set {SWITCH}=1)")
    try:
        return boards.prepare(Path(os.environ.get("EDGEC_BOARDS") or ROOT / "build" / "boards") / "virtual")
    except MissingError as error:
        pytest.skip(f"{error.what}: {error.why}")


@pytest.fixture(scope="module")
def world(image: boards.Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A user of this module's own; what they left running is ended. Engines' wheels are downloaded once for all."""
    made = World(tmp_path_factory.mktemp("user"))
    wheels = ROOT / "build" / "wheelhouse"
    wheels.mkdir(parents=True, exist_ok=True)
    (made.folder / "cache").mkdir()
    (made.folder / "cache" / "wheelhouse").symlink_to(wheels)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in made.variables.items():
            patch.setenv(name, value)
        yield made
        for name, value in made.variables.items():
            patch.setenv(name, value)
        for board in virtual.boards():
            board.power_cut()


@pytest.fixture
def here(world: World, own_folders: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The module's user, also where every test has folders of its own."""
    for name, value in world.variables.items():
        monkeypatch.setenv(name, value)
    return world


def switch_on(name: str) -> None:
    """Start a board that is in the inventory already: without being asked what it is again."""
    board = virtual.get(name)
    board.start(boards.prepare())
    assert boards.open(board.folder).port == board.port, "somebody took its port meanwhile"


def on(name: str, work: Callable[[Connection], Coroutine[Any, Any, Any]]) -> Any:
    """Do something with a connection to a board."""

    async def connected() -> Any:
        async with connect(virtual.address(name), timeout=60) as device:
            return await work(device)

    return asyncio.run(connected())


def shell(name: str, line: str, *, check: bool = True) -> str:
    """What a command on a board prints."""
    done = on(name, lambda device: device.run(line, check=check))
    return str(done.stdout.decode())


def recovered(name: str, *, timeout: float = 120) -> str:
    """Wait until what runs at boot has recovered; what it said. Fails where it failed."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        state = shell(name, "cat /run/recover.state 2>/dev/null; true").split()
        if state[:1] == ["done"]:
            said = shell(name, "cat /run/recover.log")
            assert state[1] == "0", said
            return said
        time.sleep(0.3)
    raise AssertionError(f"recover is not done after {timeout:.0f} s: {shell(name, 'cat /run/recover.log; true')}")
