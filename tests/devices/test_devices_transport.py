"""Against a real OpenSSH server: who is trusted, commands, files whose transfer was cut, connections that are lost."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import asyncssh
import pytest

from edgec.devices import Address, connect
from edgec.errors import BadInputError, UnreachableError, UnsupportedError, UsageError
from edgec_toolchains.boards import Link


def call(work, address="pi", **more):
    async def main():
        async with connect(Address.parse(address), **more) as device:
            return await work(device)

    return asyncio.run(main())


def test_a_command_and_its_words(board):
    async def work(device):
        done = await device.run(["printf", "%s|", "a b", "$HOME", "'"], stdin=b"")
        echoed = await device.run("cat; echo oops >&2; exit 3", stdin=b"given", check=False)
        return done, echoed, device.host_key

    done, echoed, key = call(work)
    assert done.stdout == b"a b|$HOME|'|" and done.status == 0
    assert (echoed.stdout, echoed.stderr, echoed.status) == (b"given", "oops\n", 3)
    assert key == asyncssh.import_public_key(board.host_key).get_fingerprint()


def test_a_command_that_fails_tells_its_own_words(board):
    async def work(device):
        await device.run("echo no such thing >&2; exit 7")

    with pytest.raises(UnsupportedError, match="a command failed") as error:
        call(work)
    assert "no such thing" in error.value.why


def test_a_command_that_takes_too_long(board):
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.run("sleep 20", timeout=0.3))
    assert error.value.code == "E1104" and error.value.exit_code == 11


def test_an_unknown_host_key_says_what_to_do(board, user):
    user.known("")
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.run("true"))
    fingerprint = asyncssh.import_public_key(board.host_key).get_fingerprint()
    assert error.value.code == "E1101" and error.value.exit_code == 11
    assert fingerprint in error.value.what and "ssh-keygen -lf" in error.value.fix


def test_another_host_key_than_the_known_one(board, user):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    user.known(f"[127.0.0.1]:{board.port} {other}")
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.run("true"))
    assert error.value.code == "E1102" and f"ssh-keygen -R '[127.0.0.1]:{board.port}'" in error.value.fix


def test_a_configuration_that_switches_the_check_off_is_refused(board, user):
    user.config(board.config("pi") + "  UserKnownHostsFile none\n")
    with pytest.raises(UsageError, match="switches the check of host keys off"):
        call(lambda device: device.run("true"))
    user.config(board.config("pi") + "  ProxyJump open\nHost open\n  UserKnownHostsFile none\n")
    with pytest.raises(UsageError, match="switches the check of host keys off"):
        call(lambda device: device.run("true"))


def test_a_known_hosts_file_of_the_configuration(board, user):
    user.known("")
    (user.home / "mine").write_text(board.known_host())
    user.config(board.config("pi") + f"  UserKnownHostsFile {user.home}/nowhere {user.home}/mine\n")
    assert call(lambda device: device.run("echo hi")).stdout == b"hi\n"


def test_through_a_jump_host(board, user):
    user.config(board.config("jump") + board.config("pi") + "  ProxyJump jump\n")
    assert call(lambda device: device.run("echo there")).stdout == b"there\n"


def test_the_port_and_user_of_the_address_win(board, user):
    user.config(f"Host *\n  IdentityFile {board.client_key}\n  User nobody\n  Port 1\n")
    assert call(lambda device: device.run("id -un"), f"pi@127.0.0.1:{board.port}").status == 0


def test_a_login_that_is_refused(board, user):
    user.config(f"Host pi\n  HostName 127.0.0.1\n  Port {board.port}\n  User {board.user}\n")
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.run("true"))
    assert error.value.code == "E1103" and "ssh-copy-id" in error.value.fix


@pytest.mark.parametrize("address", ["pi@127.0.0.1:9", "nobody@no-such-host.invalid"])
def test_nobody_there(user, address):
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.run("true"), address, timeout=5)
    assert error.value.code == "E1100" and error.value.exit_code == 11


def test_a_server_that_says_nothing(user):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match="can't reach"):
        call(lambda device: device.run("true"), f"127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)


def test_a_broken_configuration(user):
    user.config("Host pi\n  Port many\n")
    with pytest.raises(UsageError, match="SSH configuration"):
        call(lambda device: device.run("true"))


def test_files_there_and_back(board, tmp_path):
    data = os.urandom(300_000)
    (tmp_path / "local").write_bytes(data)
    path = f"{board.home}/a 'file"

    async def work(device):
        seen = []
        sent = await device.put(tmp_path / "local", path, mode=0o600, progress=seen.append)
        assert sum(seen) == len(data) == sent
        with pytest.raises(BadInputError):
            await device.get(path, limit=1000)
        with pytest.raises(BadInputError):
            await device.get(path + "no")
        return await device.get(path)

    assert call(work) == data
    assert (board.home / "a 'file").stat().st_mode & 0o777 == 0o600
    assert not list(board.home.glob("*.part"))


def test_what_was_sent_is_not_sent_again(board):
    data = os.urandom(200_000)
    (board.home / "b.part").write_bytes(data[:150_000])
    assert call(lambda device: device.put(data, f"{board.home}/b")) == 50_000
    assert (board.home / "b").read_bytes() == data


@pytest.mark.parametrize("left", [b"wrong" * 1000, b"x" * 300_000])
def test_a_wrong_beginning_is_found_out(board, left):
    data = os.urandom(200_000)
    (board.home / "c.part").write_bytes(left)
    call(lambda device: device.put(data, f"{board.home}/c"))
    assert hashlib.sha256((board.home / "c").read_bytes()).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("cut", [6_000, 150_000, 390_000])
def test_a_cut_connection_is_one_error_and_the_next_goes_on(board, user, cut):
    data = os.urandom(400_000)
    path = f"{board.home}/cut-{cut}"
    link = Link(board.port, cut=cut)
    user.config(board.config("pi", link.port))
    user.known(board.known_host(link.port))
    with pytest.raises(UnreachableError) as error:
        call(lambda device: device.put(data, path))
    assert error.value.exit_code == 11 and link.cuts == 1 and not os.path.exists(path)
    sent = call(lambda device: device.put(data, path))
    link.close()
    assert Path(path).read_bytes() == data
    assert sent < len(data) or cut < 10_000


def test_a_board_that_dies_in_the_middle(server, user, tmp_path):
    from edgec_toolchains.boards import LocalBoard

    with LocalBoard(server, tmp_path / "board") as board:
        user.config(board.config("pi"))
        user.known(board.known_host())

        async def work(device):
            waiting = asyncio.create_task(device.run("sleep 30"))
            await asyncio.sleep(0.3)
            board.kill()
            await waiting

        with pytest.raises(UnreachableError):
            call(work)


def test_a_disk_that_is_full(board):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    os.symlink("/dev/full", board.home / "full.part")
    with pytest.raises(UnsupportedError) as error:
        call(lambda device: device.put(os.urandom(100_000), f"{board.home}/full"))
    assert error.value.code == "E405" and "No space left" in error.value.why


def test_a_folder_that_is_not_there(board):
    with pytest.raises(UnsupportedError) as error:
        call(lambda device: device.put(b"x", f"{board.home}/no/such/file"))
    assert error.value.code == "E405"


def test_endless_output_is_bounded(board):
    done = call(lambda device: device.run("head -c 20000000 /dev/zero"))
    assert len(done.stdout) == 8 << 20
