"""A real OpenSSH server as a board, and a user whose ~/.ssh knows it. Skipped where the server can't be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgec.errors import Error
from edgec_toolchains.boards import LocalBoard, Server, prepare
from edgec_toolchains.boards.server import VARIABLE
from tests.devices import wheels

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def server() -> Server:
    """OpenSSH's server from Debian's package, unpacked under build/boards."""
    try:
        return prepare(Path(os.environ.get(VARIABLE) or ROOT / "build" / "boards"))
    except Error as error:
        pytest.skip(f"no OpenSSH server: {error.what}: {error.why}")


@dataclass
class User:
    """Whoever runs edgec: a home folder with ~/.ssh."""

    home: Path

    @property
    def ssh(self) -> Path:
        return self.home / ".ssh"

    def config(self, text: str) -> None:
        (self.ssh / "config").write_text(text)

    def known(self, text: str) -> None:
        (self.ssh / "known_hosts").write_text(text)


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user who knows nobody; HOME and edgec's folders are theirs."""
    made = User(tmp_path / "user")
    made.ssh.mkdir(parents=True)
    for name in ("config", "cache", "root"):
        monkeypatch.setenv(f"EDGEC_{name.upper()}", str(tmp_path / "user" / name))
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return made


@pytest.fixture(scope="module")
def running(server: Server, tmp_path_factory: pytest.TempPathFactory) -> LocalBoard:
    """A board that runs; its root folder is in its own home."""
    folder = tmp_path_factory.mktemp("board") / "pi"
    with LocalBoard(server, folder, environment={"EDGEC_ROOT": f"{folder}/home/edgec"}) as started:
        yield started


@pytest.fixture
def board(running: LocalBoard, user: User) -> LocalBoard:
    """The board, reached as `pi` by a user who knows it."""
    user.config(running.config("pi"))
    user.known(running.known_host())
    return running


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real device wheel with LiteRT, made of what is installed here."""
    found = wheels.real(tmp_path_factory.mktemp("real"))
    if found is None:
        pytest.skip("ai-edge-litert is not installed")
    return found


@pytest.fixture
def device(server: Server, user: User, tmp_path: Path) -> Iterator[LocalBoard]:
    """A bare board of its own for each test."""
    folder = tmp_path / "board"
    with LocalBoard(server, folder, environment={"EDGEC_ROOT": f"{folder}/home/edgec"}) as started:
        user.config(started.config("pi"))
        user.known(started.known_host())
        yield started
