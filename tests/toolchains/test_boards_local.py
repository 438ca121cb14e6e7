"""The local board: it starts and ends, its user and home are its own, and its bad link is bad as asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from pathlib import Path

import asyncssh
import psutil
import pytest

from edgec.errors import Error, MissingError, UnsupportedError
from edgec_toolchains.boards import Link, LocalBoard, prepare, server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def sshd():
    try:
        return prepare(Path(os.environ.get(server.VARIABLE) or ROOT / "build" / "boards"))
    except Error as error:
        pytest.skip(f"no OpenSSH server: {error.what}: {error.why}")


def ask(board, command, port=None):
    async def main():
        trusted = ([asyncssh.import_public_key(board.host_key)], [], [])
        async with asyncssh.connect(
            "127.0.0.1", port or board.port, username=board.user, client_keys=[str(board.client_key)],
            known_hosts=trusted, config=None,
        ) as connection:  # fmt: skip
            return (await connection.run(command, check=True)).stdout

    return asyncio.run(main())


def test_a_board_of_its_own(sshd, tmp_path):
    with LocalBoard(sshd, tmp_path / "a", environment={"GREETING": "hi there"}) as board:
        assert ask(board, "echo $HOME; pwd; echo $GREETING") == f"{board.home}\n{board.home}\nhi there\n"
        with LocalBoard(sshd, tmp_path / "b") as other:  # several at once
            assert ask(other, "echo $HOME") == f"{other.home}\n" and other.port != board.port
            assert other.host_key != board.host_key
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", board.port), 1)


def test_it_ends_with_what_it_runs(sshd, tmp_path):
    board = LocalBoard(sshd, tmp_path / "a")
    board.start()

    async def main():
        trusted = ([asyncssh.import_public_key(board.host_key)], [], [])
        async with asyncssh.connect(
            "127.0.0.1", board.port, username="pi", client_keys=[str(board.client_key)], known_hosts=trusted,
            config=None,
        ) as connection:  # fmt: skip
            running = asyncio.create_task(connection.run("echo $$; exec sleep 60"))
            await asyncio.sleep(0.3)
            board.kill()
            return await running

    ended = asyncio.run(main())
    assert ended.exit_status is None
    deadline = time.monotonic() + 10  # a signal that was sent is not yet one that was delivered
    with contextlib.suppress(psutil.NoSuchProcess):  # where nobody collects it, it stays as a zombie
        while psutil.Process(int(ended.stdout)).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    board.start()  # the same board again: same key, same home
    assert ask(board, "echo again") == "again\n"
    board.kill()
    board.kill()


def test_a_board_that_can_not_start_says_why(sshd, tmp_path):
    board = LocalBoard(sshd, tmp_path / "a")
    (board.folder / "sshd_config").write_text("NoSuchOption yes\n")
    with pytest.raises(UnsupportedError, match="does not start") as error:
        board.start()
    assert "NoSuchOption" in error.value.why


def test_a_slow_link(sshd, tmp_path):
    with LocalBoard(sshd, tmp_path / "a") as board:
        link = Link(board.port, bytes_per_second=20_000)
        start = time.monotonic()
        assert ask(board, "echo slow", link.port) == "slow\n"
        assert time.monotonic() - start > link.sent / 20_000 * 0.8  # it is never faster than that
        link.close()
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", link.port), 1)


def test_a_link_outlives_a_board_that_is_off(sshd, tmp_path):
    board = LocalBoard(sshd, tmp_path / "a")
    link = Link(board.port)
    with socket.create_connection(("127.0.0.1", link.port), 5) as refused:
        assert refused.recv(1) == b""
    with board:
        assert ask(board, "echo on", link.port) == "on\n"
    link.close()


def test_where_the_server_can_not_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEC_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    with pytest.raises(MissingError) as error:
        prepare(tmp_path)
    assert error.value.exit_code == 10 and not list((tmp_path).glob("*.part"))
