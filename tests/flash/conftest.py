"""Boards to flash: local sshd's of their own, with this checkout's runtime where setup would put it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec_toolchains.boards import Link, LocalBoard, Server
from tests.devices.conftest import User, server, user
from tests.flash import boards
from tests.runtime.conftest import root

__all__ = ["root", "server", "user"]


@dataclass
class Flashable:
    """A board that runs, set up, and reached as `pi`."""

    board: LocalBoard
    root: Path
    user: User

    def through(self, **how: object) -> Link:
        """Reach it through a link from now on."""
        link = Link(self.board.port, **how)  # type: ignore[arg-type]
        self.user.config(self.board.config("pi", link.port))
        self.user.known(self.board.known_host(link.port))
        return link


@pytest.fixture
def pi(server: Server, user: User, tmp_path: Path) -> Iterator[Flashable]:
    """A board of its own for each test."""
    folder = tmp_path / "board"
    with LocalBoard(server, folder, environment={"EDGEC_ROOT": f"{folder}/home/edgec"}) as started:
        user.config(started.config("pi"))
        user.known(started.known_host())
        yield Flashable(started, boards.set_up(started.home), user)
